"""Running a Python script as on another x86-64 processor: emulated by QEMU, or with this one's features hidden."""

import os
import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_SOURCE = Path(__file__).with_name("limit_cpuid.c")
_UNAVAILABLE = 77


class Processor(StrEnum):
    """A processor to run on."""

    NATIVE = "native"
    HASWELL = "Haswell"
    """AVX2 without AVX-512 and VNNI, emulated: https://www.qemu.org/docs/master/system/i386/cpu.html."""
    NEHALEM = "Nehalem"
    """SSE4.2, emulated."""
    HIDDEN = "features hidden"
    """This one without AVX-512, VNNI and AMX, at full speed."""


def run_on(processor: Processor, script: Path, *arguments: object) -> str:
    """Run a script with this Python and return what it printed; skip the test where the processor is not available."""
    command = [sys.executable, "-P", str(script), *map(str, arguments)]
    environment = dict(os.environ)
    with TemporaryDirectory() as folder:
        if processor is Processor.HIDDEN:
            environment["LD_PRELOAD"] = str(_compiled(Path(folder)))
        elif processor is not Processor.NATIVE:
            emulator = shutil.which("qemu-x86_64")
            if emulator is None:
                pytest.skip("needs qemu-x86_64 (Debian's package qemu-user)")
            command = [emulator, "-cpu", processor.value, *command]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if processor is Processor.HIDDEN and result.returncode == _UNAVAILABLE:
        pytest.skip("needs a processor and a system that let CPUID fault (arch_prctl, ARCH_SET_CPUID)")
    assert result.returncode == 0, result.stderr
    return result.stdout


def _compiled(folder: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or os.uname().machine != "x86_64":
        pytest.skip("needs a C compiler on x86-64")
    library = folder / "limit_cpuid.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, _SOURCE], check=True, timeout=60)
    return library
