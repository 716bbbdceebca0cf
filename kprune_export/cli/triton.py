"""``kprune-export triton``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kprune_export.cli import options
from kprune_export.cli.printing import print_json
from kprune_export.errors import ExitCode

if TYPE_CHECKING:
    from kprune_export.triton.repository_record import RepositoryRecord


def triton(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by prune-and-build.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The repository to write; a new or empty folder, or an earlier repository."
        ),
    ],
    name: Annotated[str, typer.Option(help="What the models' names begin with.")] = "encoder",
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="A variant to serve, as onnxruntime-fp32; several times for several.",
            show_default="all of the bundle's",
        ),
    ] = None,
    backend: Annotated[
        Literal["python", "onnxruntime", "tensorrt"] | None,
        typer.Option(
            help="What runs them; python: ONNX Runtime inside the Python backend, for servers without the others.",
            show_default="tensorrt for engines, onnxruntime for the others",
        ),
    ] = None,
    text: Annotated[
        bool,
        typer.Option(
            "--text/--no-text", help="Whether clients can send texts, and get labels, scores, spans or embeddings."
        ),
    ] = True,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Clients send pairs of texts; those of rerankers always do.")
    ] = False,
    validated: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder that validate wrote on another machine (--output): its timings make a configuration for "
            "that machine; several times for several.",
        ),
    ] = None,
    json_output: options.Json = False,
) -> int:
    """Write a Triton model repository from a bundle.

    Batch sizes, waiting times and instances come from the engines' profiles and from what was timed; the output says
    how. Each machine that the bundle was timed on has a configuration of its own, which a server takes with
    --model-config-name. Servers find nothing half-written: the repository appears when it is whole.

    Example: kprune-export triton bundle -o models && tritonserver --model-repository=models
    """
    from kprune_export.cli.early_checks import check_bundles

    check_bundles(bundle)
    from kprune_export.triton.repository import RepositoryRequest, write_repository

    record = write_repository(
        RepositoryRequest(
            bundle=bundle,
            output=output,
            name=name,
            variants=tuple(variant or ()),
            backend=backend,
            text=text,
            pairs=pairs,
            validated=tuple(validated or ()),
        )
    )
    if json_output:
        print_json(record.model_dump_json(indent=2))
    else:
        _show(record, output)
    return ExitCode.OK


def _show(record: "RepositoryRecord", output: Path) -> None:
    from rich.table import Table

    from kprune_export.cli.console import output_console

    console = output_console()
    table = Table(title=f"Served: {record.task}", title_justify="left")
    for heading in ("model", "backend", "batches", "tokens", "waits", "instances"):
        table.add_column(heading, overflow="fold")
    for encoder in record.encoders:
        sizes = ", ".join(map(str, encoder.preferred))
        table.add_row(
            encoder.name,
            encoder.backend,
            f"to {encoder.max_batch}" + (f", best {sizes}" if sizes else ""),
            f"{encoder.min_tokens} to {encoder.max_tokens}",
            "not merged" if encoder.delay_us is None else f"{encoder.delay_us} µs",
            f"{encoder.instances} {'a GPU' if encoder.gpu else 'on the CPU'}",
        )
    console.print(table)
    for encoder in record.encoders:
        console.print(f"{encoder.name}: {'; '.join(encoder.reasons)}.", markup=False)
        for config in encoder.configs:
            reasons = "; ".join(config.reasons[1:])
            console.print(
                f"  --model-config-name={config.name}, as timed on {config.machine}: {reasons}.", markup=False
            )
    if record.text:
        sent, got = (", ".join(x.name for x in tensors) for tensors in (record.text.inputs, record.text.outputs))
        console.print(f"{', '.join(record.text.ensembles.values())}: {sent} in, {got} out.", markup=False)
    console.print(_needs(record), markup=False)
    if record.verdict:
        console.print(f"The bundle's verdict: {record.verdict}", markup=False)
    console.print(f"Written to {output}", markup=False)


def _needs(record: "RepositoryRecord") -> str:
    """Say what a server must have."""
    used = {encoder.backend for encoder in record.encoders}
    backends = sorted(used | ({"python"} if record.text else set()))
    packages = ["numpy"] if "python" in backends else []
    packages += ["onnxruntime"] if "python" in used else []
    packages += ["tokenizers"] if record.text else []
    needs = f"The server needs {_listed(backends, 'backend')}"
    needs += f", its Python {_listed(packages, 'package')}." if packages else "."
    return f"{needs} Without the backend onnxruntime: --backend python." if "onnxruntime" in used else needs


def _listed(names: list[str], kind: str) -> str:
    return f"the {kind} {names[0]}" if len(names) == 1 else f"the {kind}s {', '.join(names[:-1])} and {names[-1]}"
