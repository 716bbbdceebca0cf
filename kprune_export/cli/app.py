"""The command line: its commands, and what becomes of errors."""

import functools
import inspect as inspect_module
import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer

from kprune_export.cli.compare import compare
from kprune_export.cli.demo import demo
from kprune_export.cli.diff import diff
from kprune_export.cli.doctor import doctor
from kprune_export.cli.export import export
from kprune_export.cli.flags import Command, Group
from kprune_export.cli.inspect import inspect
from kprune_export.cli.printing import print_json, print_text
from kprune_export.cli.profile_target import profile_target
from kprune_export.cli.prune import prune
from kprune_export.cli.prune_and_build import prune_and_build
from kprune_export.cli.push import push
from kprune_export.cli.recommend import recommend
from kprune_export.cli.serve_check import serve_check
from kprune_export.cli.sign import sign
from kprune_export.cli.signals import termination_as_interruption
from kprune_export.cli.streams import discard_output, flush_output, prepare_streams
from kprune_export.cli.surroundings import check_surroundings
from kprune_export.cli.sweep import sweep
from kprune_export.cli.triton import triton
from kprune_export.cli.validate import validate
from kprune_export.cli.verify import verify
from kprune_export.errors import ExitCode, exit_code_of, message_of
from kprune_export.waiting import choose_waiting

TRACEBACK_VARIABLE = "KPRUNE_EXPORT_TRACEBACK"

app = typer.Typer(
    name="kprune-export",
    cls=Group,
    help="Prune a fine-tuned encoder in minutes and without labels, export it, and validate what ships.",
    epilog="Exit codes: 0 all gates passed, 1 internal error, 2 bad input, 3 a gate failed, 4 parity failed, "
    "5 a runtime is missing, 6 a gate is inconclusive, 130 interrupted, 143 terminated.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"kprune-export {version('kprune-export')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


_WITH_PROGRESS = (prune_and_build, prune, export, validate, sweep, compare, profile_target, demo)
_Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print no progress; results, warnings and errors are printed.")
]


def _guarded(command: Callable[..., int], *, quiet: bool = False) -> Callable[..., None]:
    """Return a command whose failures become one sentence on standard error and an exit code.

    Args:
        command: what is run.
        quiet: whether it shows progress, so that it gets an option to show none.

    """

    @functools.wraps(command)
    def run(**options: Any) -> None:
        try:
            from kprune_export.cli.console import route_warnings
            from kprune_export.cli.progress import hide_progress

            if quiet:
                hide_progress(options.pop("quiet"))

            check_surroundings(options)
            route_warnings()
            code = command(**options)
            flush_output()
        except (Exception, KeyboardInterrupt) as error:
            code = _report(error, as_json=bool(options.get("json_output")))
        raise typer.Exit(code)

    if quiet:
        signature = inspect_module.signature(command)
        option = inspect_module.Parameter(
            "quiet", inspect_module.Parameter.KEYWORD_ONLY, default=False, annotation=_Quiet
        )
        keywords = [
            x.replace(kind=inspect_module.Parameter.KEYWORD_ONLY) for x in (*signature.parameters.values(), option)
        ]
        run.__signature__ = signature.replace(parameters=keywords)  # type: ignore[attr-defined]
        run.__annotations__ = {**command.__annotations__, "quiet": _Quiet}
    return run


_BUILD, _CHECK, _SERVE, _STUDY = "Build", "Check", "Serve", "Compare and measure"
for _panel, _name, _command in (
    (_BUILD, "prune-and-build", prune_and_build),
    (_BUILD, "prune", prune),
    (_BUILD, "export", export),
    (_BUILD, "sweep", sweep),
    (_BUILD, "recommend", recommend),
    (_BUILD, "demo", demo),
    (_CHECK, "validate", validate),
    (_CHECK, "verify", verify),
    (_CHECK, "inspect", inspect),
    (_CHECK, "diff", diff),
    (_CHECK, "doctor", doctor),
    (_SERVE, "triton", triton),
    (_SERVE, "serve-check", serve_check),
    (_SERVE, "sign", sign),
    (_SERVE, "push", push),
    (_STUDY, "compare", compare),
    (_STUDY, "profile-target", profile_target),
):
    app.command(_name, cls=Command, rich_help_panel=_panel)(_guarded(_command, quiet=_command in _WITH_PROGRESS))


def main() -> None:
    """Run the command line."""
    choose_waiting()  # before any command imports torch
    prepare_streams()
    code: str | int | None = None
    try:
        with termination_as_interruption():
            app()
    except SystemExit as leaving:
        code = leaving.code
    except OSError as error:  # of what is printed outside of commands, as the help is
        code = _report(error, as_json=False)
    try:
        flush_output()
    except OSError as error:
        code = code or _report(error, as_json=False)
    discard_output()
    if os.environ.get("WORLD_SIZE", "") not in ("", "1"):  # torchrun started this process
        _leave_at_once(code)
    sys.exit(code)


def _leave_at_once(code: str | int | None) -> NoReturn:
    """End the process without Python's finalisation, all its work being done and closed.

    A worker thread of gloo may still be giving its last tensor back, and aborts the process when it asks a
    finalising interpreter for the lock: https://github.com/pytorch/pytorch/issues/190489.
    """
    os._exit(code if isinstance(code, int) else int(code is not None))


def _report(error: BaseException, as_json: bool) -> int:
    """Say what went wrong and return the exit code; an error that is a bug says so."""
    found = exit_code_of(error)
    code = ExitCode.INTERNAL if found is None else found
    text = message_of(error)
    if found is None:
        text = f"internal error, {type(error).__name__}: {text} (set {TRACEBACK_VARIABLE}=1 to see where)"
    if as_json:
        print_json(json.dumps({"error": text, "exit_code": int(code)}, indent=2))
    print_text(f"Error: {text}", to_errors=True)
    if os.environ.get(TRACEBACK_VARIABLE):
        print_text("".join(traceback.format_exception(error)).rstrip(), to_errors=True)
    return code
