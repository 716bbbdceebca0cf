"""The command line: its commands, and what becomes of errors."""

import json
import os
import sys
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from kprune_export.cli.doctor import doctor
from kprune_export.cli.export import export
from kprune_export.cli.inspect import inspect
from kprune_export.cli.prune import prune
from kprune_export.cli.prune_and_build import prune_and_build
from kprune_export.cli.validate import validate
from kprune_export.cli.verify import verify
from kprune_export.errors import ExitCode, exit_code_of, message_of

TRACEBACK_VARIABLE = "KPRUNE_EXPORT_TRACEBACK"

app = typer.Typer(
    name="kprune-export",
    help="Prune a fine-tuned encoder without retraining, export it, and prove what ships.",
    epilog="Exit codes: 0 all held, 1 internal error, 2 bad input, 3 a gate failed, 4 parity failed, "
    "5 a runtime is missing.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"kprune-export {version('kprune-export')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


app.command("prune-and-build")(prune_and_build)
app.command("prune")(prune)
app.command("export")(export)
app.command("validate")(validate)
app.command("verify")(verify)
app.command("inspect")(inspect)
app.command("doctor")(doctor)


def main() -> None:
    """Run the command line; every failure becomes one sentence on standard error and an exit code."""
    as_json = "--json" in sys.argv[1:]
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        sys.exit(_report(error, as_json))
    except KeyboardInterrupt as error:
        sys.exit(_report(error, as_json))
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _report(error: BaseException, as_json: bool) -> int:
    """Say what went wrong and return the exit code; an error that is a bug says so."""
    code = _usage_error_code(error)
    if code is None:
        found = exit_code_of(error)
        code = ExitCode.INTERNAL if found is None else found
        text = message_of(error)
        if found is None:
            text = f"internal error, {type(error).__name__}: {error} (set {TRACEBACK_VARIABLE}=1 to see where)"
        _say(text, code, as_json)
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    return code


def _usage_error_code(error: BaseException) -> int | None:
    """Let click print its own usage errors, which name the option and the command."""
    import click

    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.ClickException):
        error.show()
        return ExitCode.BAD_INPUT
    if isinstance(error, click.Abort):
        _say("Interrupted.", ExitCode.INTERRUPTED, as_json=False)
        return ExitCode.INTERRUPTED
    return None


def _say(text: str, code: int, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": text, "exit_code": int(code)}))
    print(f"Error: {text}", file=sys.stderr)
