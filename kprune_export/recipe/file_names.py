"""Names that can be written into the files of a bundle, all of which are UTF-8."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kprune_export.errors import SurroundingsError


def check_names(values: Iterable[Any]) -> None:
    """Check every text and path among some values, and in lists of them; others are left out.

    Raises:
        SurroundingsError: one cannot be written as UTF-8.

    """
    for value in values:
        for name in value if isinstance(value, list | tuple) else (value,):
            if isinstance(name, str | Path):
                _check(str(name))


def _check(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        encoding = sys.getfilesystemencoding()
        why = "is not UTF-8" if encoding == "utf-8" else f"cannot be read as {encoding}, the encoding of this locale"
        remedy = "rename it" if encoding == "utf-8" else "set LC_ALL=C.UTF-8, or rename it"
        raise SurroundingsError(f"The name {name!r} {why}: {remedy}.") from error
