"""Requirements on the process that a command runs in, checked before it begins."""

import os
import resource
from collections.abc import Mapping
from typing import Any

from kprune_export.errors import SurroundingsError
from kprune_export.recipe.file_names import check_names

FILES = 256
"""How many open files a command needs to be allowed; it uses fewer."""
_ENOUGH_FILES = 4096


def check_surroundings(options: Mapping[str, Any]) -> None:
    """Check that a command can work where and as it was started.

    Args:
        options: the command's options, for the names of files among them.

    Raises:
        SurroundingsError: the working directory is gone, too few files may be open, or a name is not UTF-8.

    """
    _check_directory()
    _check_files()
    check_names(options.values())


def _check_directory() -> None:
    try:
        os.getcwd()  # noqa: PTH109 - Path.cwd() is the same call
    except FileNotFoundError as error:
        raise SurroundingsError("The working directory has been removed: change to another one.") from error
    except PermissionError as error:
        raise SurroundingsError("The working directory cannot be read: change to another one.") from error


def _check_files() -> None:
    """Raise the limit of open files as far as this process may, and refuse one that is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < _ENOUGH_FILES:
        soft = _ENOUGH_FILES if hard == unlimited else min(hard, _ENOUGH_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft != unlimited and soft < FILES:
        raise SurroundingsError(
            f"This process may open {soft} files at once, and {FILES} are needed: raise the limit (ulimit -n, in the "
            "shell)."
        )
