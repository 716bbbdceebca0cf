"""``kprune-export serve-check``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.printing import print_json
from kprune_export.errors import ExitCode, RecipeError

if TYPE_CHECKING:
    from kprune_export.triton.check import CheckReport


def serve_check(
    repository: Annotated[
        Path, typer.Argument(help="A model repository that kprune-export triton wrote.", show_default=False)
    ],
    server: Annotated[
        str | None,
        typer.Option(help="The tritonserver to start.", show_default="the one on the PATH, or in /opt/tritonserver"),
    ] = None,
    server_option: Annotated[
        list[str] | None,
        typer.Option(help="A further option for it, as --backend-directory=DIR; several times for several."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="The HTTP address of a server that runs, as localhost:8000; none is started.")
    ] = None,
    grpc_url: Annotated[
        str | None, typer.Option(help="The gRPC address of a server that runs, as localhost:8001.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="The bundle that it was made from: answers are then compared with its checkpoint in torch.",
            show_default="the served ONNX file in ONNX Runtime",
        ),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            help="Texts to send: a file or a data set, as for --calibration.",
            show_default="English sentences embedded in the installed packages",
        ),
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="Requests for each model over each protocol.")] = 32,
    concurrency: Annotated[int, typer.Option(min=1, help="How many of them at once.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that the models may take to load.")] = 120.0,
    json_output: options.Json = False,
) -> int:
    """Start a Triton server, or take one that runs, and check its answers over HTTP and gRPC.

    Every model of the repository is sent concurrent requests of mixed lengths, and each answer is compared with the
    pruned model. A server that was started is on loopback and ends with the check, whatever happens.

    Exit code 4 if an answer differs or a request fails, 5 if there is no server or it lacks a backend.

    Example: kprune-export serve-check models --bundle bundle
    """
    import contextlib

    from kprune_export.cli.early_checks import check_repository

    check_repository(repository)
    from kprune_export.triton.check import Load, check_server
    from kprune_export.triton.repository_record import RepositoryRecord
    from kprune_export.triton.server import Endpoints, find_server, running_server
    from pruning.calibration.docstrings import docstring_examples
    from pruning.calibration.examples import read_examples

    running = Endpoints(url, grpc_url)
    if running.protocols and (server or server_option):
        raise RecipeError("--url and --grpc-url name a server that runs, --server one to start: give one of the two.")
    RepositoryRecord.of_repository(repository)  # before a server is started for it
    examples = docstring_examples(200, 0) if texts is None else read_examples(texts)
    with contextlib.ExitStack() as stack:
        if running.protocols:
            name = ", ".join(running.protocols.values())
        else:
            name = find_server(server)
            running = stack.enter_context(running_server(repository, name, server_option or (), timeout))
        load = Load(requests, concurrency)
        report = check_server(repository, running, name, examples, bundle, load)
    if json_output:
        print_json(report.model_dump_json(indent=2))
    else:
        _show(report)
    return ExitCode.OK if report.passed else ExitCode.PARITY_FAILED


def _show(report: "CheckReport") -> None:
    from rich.table import Table
    from rich.text import Text

    from kprune_export.cli.console import output_console

    console = output_console()
    table = Table(title=f"{report.server}, beside {report.reference}", title_justify="left")
    table.add_column("model", no_wrap=True)
    for heading in ("by", "requests", "failed", "largest error", "p50, p99 ms"):
        table.add_column(heading, overflow="fold", justify="right")
    for row in report.rows:
        error = f"{row.max_abs_error:.1e} of {row.tolerance:.1e}"
        times = f"{row.p50_ms:.1f}, {row.p99_ms:.1f}"
        table.add_row(row.model, row.protocol, str(row.requests), str(len(row.failures)), error, times)
    console.print(table)
    for row in report.rows:
        if row.failures:
            console.print(f"{row.model} over {row.protocol}: {row.failures[0]}", markup=False)
    passed = ("every answer is right", "green") if report.passed else ("answers are wrong or missing", "red")
    console.print(Text.assemble(f"{report.concurrency} requests at once: ", passed))
