"""Lay a Triton server with its Python backend into a folder: python lay.py FOLDER, which then holds `tritonserver`.

The server is the one in the wheel of nvidia-pytriton (55 MB). Its Python backend runs models with the Python that it
finds as python3 on the PATH: here a virtual environment with numpy 1, without which this server's backend gives empty
outputs, and with the packages of the Python that this script runs in.
"""

import ctypes.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

SERVER, NUMPY = "nvidia-pytriton==0.7.0", "numpy==1.26.4"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_SCRIPT = """#!/bin/sh
# Triton, with its libraries and its own Python.
export LD_LIBRARY_PATH='{libraries}'
export PATH='{python}':"$PATH"
exec '{server}' --backend-directory='{backends}' "$@"
"""


def why_not() -> str | None:
    """Say why this machine cannot have it, None if it can."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "the wheel with the Triton server is there for Linux on x86-64 only"
    if VERSION not in ("3.11", "3.12"):
        return f"the Triton server's Python backend needs numpy 1, which is not there for Python {VERSION}"
    shared = Path(sysconfig.get_config_var("LIBDIR")) / f"libpython{VERSION}.so.1.0"
    if not shared.exists() and ctypes.util.find_library(f"python{VERSION}") is None:
        return f"the Triton server's Python backend needs {shared.name}, and this Python was built without it"
    return None


def lay(folder: Path) -> None:
    """Fill a folder; it appears when all is done."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tritonserver-", dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        _install(made / "server", SERVER)
        triton = made / "server" / "pytriton" / "tritonserver"
        stub = triton / "python_backend_stubs" / VERSION / "triton_python_backend_stub"
        shutil.copyfile(stub, triton / "backends" / "python" / stub.name)
        for program in (triton / "bin" / "tritonserver", triton / "backends" / "python" / stub.name):
            program.chmod(0o755)
        venv.create(made / "python", symlinks=True)
        packages = made / "python" / "lib" / f"python{VERSION}" / "site-packages"
        _install(packages, NUMPY)
        (packages / "rest.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        script = made / "tritonserver"
        script.write_text(_script(folder, triton.relative_to(made)), encoding="utf-8")
        script.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _script(folder: Path, triton: Path) -> str:
    libraries = (folder / "server" / "nvidia_pytriton.libs", Path(sysconfig.get_config_var("LIBDIR")))
    return _SCRIPT.format(
        libraries=os.pathsep.join(map(str, libraries)),
        python=folder / "python" / "bin",
        server=folder / triton / "bin" / "tritonserver",
        backends=folder / triton / "backends",
    )


def _install(folder: Path, package: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    environment = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}  # it pins numpy 2
    subprocess.run([*pip, "--target", folder, package], check=True, env=environment)


if __name__ == "__main__":
    reason = why_not()
    if reason:
        print(f"The tests with a Triton server will be skipped: {reason}.")
    else:
        lay(Path(sys.argv[1]).absolute())
