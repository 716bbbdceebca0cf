"""Loading the `tensorrt` module that `tensorrt_on_cpu/lay.py` lays down, or the real one where it is installed."""

import ctypes
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    paths = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(folder))))
    return {**os.environ, "PYTHONPATH": paths, "LD_LIBRARY_PATH": libraries}
