"""The Triton server that `tritonserver/lay.py` lays down."""

import os
import sys
from pathlib import Path

SERVER = Path(os.environ.get("KPRUNE_TRITONSERVER", Path(sys.prefix) / "tritonserver" / "tritonserver"))


def missing() -> str | None:
    """Say why there is no server to test with, None if there is."""
    if SERVER.is_file():
        return None
    return (
        f"needs a Triton server: {SERVER} is not there (make test lays it down where it can run; KPRUNE_TRITONSERVER "
        "can name one)"
    )
