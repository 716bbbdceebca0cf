"""Single files that a command writes, and not a folder: what is there already is not lost."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from kprune_export.errors import OutputFolderError

_LOOKED_AT = 4096
"""Bytes at the beginning of a file by which its kind is known."""


def check_new(path: Path) -> None:
    """Check that a file can be made: nothing has its name, and its folder is there.

    Raises:
        OutputFolderError: something has its name, or there is no such folder.

    """
    if os.path.lexists(path):
        raise OutputFolderError(f"{path} is there already: name another file, or remove it.")
    if not path.absolute().parent.is_dir():
        raise OutputFolderError(f"The folder of {path} is not there: make it first.")


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet, whole or not at all.

    Raises:
        OutputFolderError: something has its name by now.

    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        _rename_to_new(partial, path)
    except FileExistsError as error:
        raise OutputFolderError(
            f"{path} was made by something else while this command was running, and is left as it is: run the command "
            "again with another file."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _rename_to_new(partial: Path, path: Path) -> None:
    """Give a file its name, which nothing may have: a renaming would replace what has it."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with path.open("x"):
            partial.replace(path)


def check_replaceable(path: Path, kind: str, is_ours: Callable[[bytes], bool]) -> None:
    """Check that a file may be overwritten: there is none, it is empty, it is an earlier one, or no regular file.

    Args:
        path: the file.
        kind: what this program writes to it, in messages.
        is_ours: whether a file that begins with these bytes is an earlier one.

    Raises:
        OutputFolderError: it holds something else.

    """
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            start = file.read(_LOOKED_AT)
    except OSError:  # writing it will say why
        return
    if start and not is_ours(start):
        raise OutputFolderError(
            f"{path} holds something other than {kind} of this program, and is not overwritten: name another file."
        )
