"""Description of the machine that a measurement was made on."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from exporters.machine.cpu_quota import cpu_quota
from exporters.machine.gpu import GpuRecord, describe_gpu

_CPUINFO = Path("/proc/cpuinfo")
PACKAGES = (
    "kprune-export",
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "onnxruntime-gpu",
    "openvino",
    "numpy",
    "tensorrt",
)


INSTRUCTION_SETS = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16"),
    *("asimddp", "i8mm"),
)
"""The instruction sets, of x86-64 and of Arm, that decide which kernels the runtimes choose, as Linux names them:
https://docs.kernel.org/arch/arm64/elf_hwcaps.html, arch/x86/include/asm/cpufeatures.h in its sources."""
INT8_INSTRUCTIONS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""Those of them that multiply 8-bit integers and add up in 32 bits."""


class MachineRecord(BaseModel):
    """Processor, memory and software of a machine, and how busy it was."""

    model_config = ConfigDict(frozen=True)

    cpu_model: str
    instruction_sets: tuple[str, ...] = ()
    """Those of `INSTRUCTION_SETS` that the processor has."""
    cpus: int
    """Logical processors that the process may use."""
    cpu_quota: float | None = None
    """How many processors' time its control group may use; None without a CPU quota."""
    memory_gib: float
    governor: str | None
    """The CPU frequency governor, where the system reports it."""
    load_1min: float
    """The load average when the record was made."""
    gpu: GpuRecord | None = None
    """The GPU that torch finds."""
    system: str
    python: str
    versions: dict[str, str]

    @property
    def multiplies_int8(self) -> bool:
        """Whether the processor has instructions that multiply and add up 8-bit integers."""
        return bool(INT8_INSTRUCTIONS & set(self.instruction_sets))

    @property
    def usable_cpus(self) -> int:
        """How many threads it could keep busy: its processors, or its CPU quota rounded up."""
        return self.cpus if self.cpu_quota is None else max(1, min(self.cpus, ceil(self.cpu_quota)))

    @property
    def processors(self) -> str:
        """The number of processors in words, with the CPU quota where there is one."""
        quota = "" if self.cpu_quota is None else f" with a CPU quota of {self.cpu_quota:g}"
        return f"{self.cpus} processor{'' if self.cpus == 1 else 's'}{quota}"


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on; those not installed are left out."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe_machine() -> MachineRecord:
    """Describe the machine that this process runs on."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return MachineRecord(
        cpu_model=cpu_model(),
        instruction_sets=instruction_sets(),
        cpus=len(os.sched_getaffinity(0)),
        cpu_quota=cpu_quota(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        governor=governor.read_text(encoding="ascii").strip() if governor.is_file() else None,
        load_1min=round(os.getloadavg()[0], 2),
        gpu=describe_gpu(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions=installed_versions(),
    )


def instruction_sets(info: Path = _CPUINFO) -> tuple[str, ...]:
    """Return those of `INSTRUCTION_SETS` that the processor has; empty where the system does not list them.

    Args:
        info: the kernel's list of processors.

    """
    if not info.is_file():
        return ()
    listed = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info.read_text(encoding="utf-8"), re.MULTILINE)
    flags = listed[1].split() if listed else []
    return tuple(name for name in INSTRUCTION_SETS if name in flags)


def cpu_model(info: Path = _CPUINFO) -> str:
    """Return the processor's name as the system gives it."""
    if info.is_file():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()
