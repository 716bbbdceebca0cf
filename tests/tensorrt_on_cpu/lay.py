"""Lay a `tensorrt` module that builds engines without a GPU into a folder: python lay.py FOLDER.

It is TensorRT's own Python bindings over the compiler of TensorRT-RTX, both from the package index, with three
small libraries between them. FOLDER/ten holds the bindings of TensorRT 10, which load but build nothing.
"""

import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BINDINGS, TEN = "tensorrt-cu13-bindings==11.4.0.106", "tensorrt-cu12-bindings==10.16.1.11"
COMPILER = "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0"
SHIMS = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
HERE = Path(__file__).parent
_MODULE = "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"


def why_not() -> str | None:
    """Say why this machine cannot have it, None if it can."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "the TensorRT compiler is there for Linux on x86-64 only"
    return None if shutil.which("cc") else "a C compiler (cc) is needed to link the TensorRT compiler"


def lay(folder: Path) -> None:
    """Fill a folder that is not there yet; it appears when all is done."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tensorrt-", dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        _install(made, "11", BINDINGS, COMPILER)
        _install(made / "ten", "10", TEN)
        libraries = made / "lib"
        for library in ("libtensorrt_rtx", "libtensorrt_onnxparser_rtx"):
            (file,) = (made / "onnxruntime_ep_nv_tensorrt_rtx").glob(f"{library}.so.1.*.*")
            (libraries / f"{library}.so.1").symlink_to(Path("..") / file.relative_to(made))
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _install(folder: Path, major: str, *packages: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", folder, *packages], check=True)
    (folder / "lib").mkdir()
    for name in SHIMS:
        library = f"lib{name}.so.{major}"
        options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", f"-Wl,-soname,{library}"]
        subprocess.run(["cc", *options, "-o", folder / "lib" / library, HERE / f"{name}_shim.c", "-ldl"], check=True)
    (folder / "tensorrt").mkdir()
    (folder / "tensorrt" / "__init__.py").write_text(_MODULE, encoding="utf-8")


if __name__ == "__main__":
    reason = why_not()
    if reason:
        print(f"The engine tests will be skipped: {reason}.")
    else:
        lay(Path(sys.argv[1]).absolute())
