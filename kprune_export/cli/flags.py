"""Commands as this program shows them: help with defaults in words, and refusals that can be printed.

Help shows no type beside a flag, which takes no value, and a default as the last sentence of an option's help.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand, TyperGroup

from kprune_export.printable import printable


class Command(TyperCommand):
    """A command."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, the flag for help included."""
        return _as_shown(super().get_params(ctx))


class Group(TyperGroup):
    """The command that holds the others."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, the flag for help included."""
        return _as_shown(super().get_params(ctx))

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """Read the options that stand before the command's name."""
        with _printable_refusals():
            return super().make_context(*arguments, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Read the command's options and run it."""
        with _printable_refusals():
            return super().invoke(ctx)


@contextlib.contextmanager
def _printable_refusals() -> Iterator[None]:
    """Write out control characters of arguments that the parser repeats as it refuses them."""
    try:
        yield
    except Exception as error:  # of a class that Typer does not export
        if isinstance(message := getattr(error, "message", None), str):
            error.message = printable(message)  # type: ignore[attr-defined]
        raise


def _as_shown(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        if isinstance(default := getattr(parameter, "show_default", False), str):
            parameter.help = f"{(parameter.help or '').rstrip('.')}. Default: {default}."
            parameter.show_default = False
    return parameters
