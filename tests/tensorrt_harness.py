"""Loading the `tensorrt` module that `tensorrt_on_cpu/lay.py` lays down, or the real one where it is installed."""

import ctypes
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("KPRUNE_TENSORRT_ON_CPU", Path(sys.prefix) / "tensorrt-on-cpu"))
_LIBRARIES = (
    "tensorrt_rtx.so.1",
    "tensorrt_onnxparser_rtx.so.1",
    "nvinfer.so.11",
    "nvonnxparser.so.11",
    "nvinfer_plugin.so.11",
)


def missing() -> str | None:
    """Say why there is no TensorRT to test with, None if there is."""
    if (FOLDER / "lib").is_dir():
        return None
    return (
        f"needs TensorRT: {FOLDER} is not there (make test lays it down where there is a C compiler; "
        "KPRUNE_TENSORRT_ON_CPU can name it)"
    )


@contextmanager
def importable() -> Iterator[None]:
    """Make `import tensorrt` work in this process for a while.

    The libraries are loaded beforehand, and found by their names then, so that no LD_LIBRARY_PATH is needed.
    """
    for library in _LIBRARIES:
        ctypes.CDLL(str(FOLDER / "lib" / f"lib{library}"), mode=ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(FOLDER))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("tensorrt", None)


def environment(major: int = 11) -> dict[str, str]:
    """Return the environment in which another process can import the module; in version 10 it builds nothing."""
    folder = FOLDER if major == 11 else FOLDER / "ten"
    libraries = os.pathsep.join(map(str, (folder / "lib", FOLDER / "lib")))
    paths = os.pathsep.join(filter(None, (str(ROOT), str(folder), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": paths, "LD_LIBRARY_PATH": libraries}


def with_bindings(major: int, script: str, *arguments: str) -> Any:
    """Run a script in a process that has the bindings of a version, and return the JSON that it prints."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=environment(major), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
