"""``kprune-export doctor``."""

from kprune_export.cli import options
from kprune_export.cli.printing import print_json


def doctor(json_output: options.Json = False) -> int:
    """Show what this machine can run: providers, GPU, TensorRT, Triton, and how to install what is missing.

    Exit code 0 if the main job can run, 5 if something that it needs is missing.
    """
    import json

    from rich.table import Table
    from rich.text import Text

    from kprune_export.cli.console import output_console
    from kprune_export.doctor import examine
    from kprune_export.errors import ExitCode

    findings = examine()
    code = ExitCode.OK if all(x.found for x in findings if x.needed) else ExitCode.RUNTIME_MISSING
    if json_output:
        print_json(json.dumps({"ready": code is ExitCode.OK, "findings": [x.model_dump() for x in findings]}, indent=2))
        return code
    table = Table(title="This machine", title_justify="left")
    for name in ("", "found", "detail"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        mark = ("yes", "green") if finding.found else ("no", "red" if finding.needed else "")
        table.add_row(finding.name, Text(*mark), finding.detail)
    console = output_console()
    console.print(table)
    ready = "The main job can run here." if code is ExitCode.OK else "The main job cannot run here yet."
    console.print(ready)
    for finding in findings:
        if finding.remedy:
            console.print(f"To install {finding.name}: {finding.remedy}", markup=False)
    return code
