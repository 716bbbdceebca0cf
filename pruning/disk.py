"""Normalised disk errors."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise what safetensors reports of a failed write as the OSError that it was.

    The library wraps the system's error into a text that ends in ``(os error N)``.
    """
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        code = int(found[1]) if found else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error
