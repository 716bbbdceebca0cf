"""Printing that no text can turn against the terminal; `kprune_export.cli.console` does the same for tables."""

import sys

from kprune_export.printable import printable, printable_json


def print_json(document: str) -> None:
    """Print a JSON document."""
    print(printable_json(document))


def print_text(text: str, *, to_errors: bool = False) -> None:
    """Print text, its control characters written out.

    Args:
        text: one line or several, without the last line's end.
        to_errors: whether to print it on standard error.

    """
    print(printable(text), file=sys.stderr if to_errors else sys.stdout)
