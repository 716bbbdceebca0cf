"""The GPU that a process uses, as engines and measurements have to know it."""

import shutil
import subprocess

from pydantic import BaseModel, ConfigDict


class GpuRecord(BaseModel):
    """A GPU and the software that drives it.

    Attributes:
        name: as CUDA gives it.
        compute_capability: major and minor, ``9.0`` for example.
        memory_gib: its memory.
        driver: the version of NVIDIA's driver, None where nvidia-smi does not tell it.
        cuda: the version of CUDA that torch was built for.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    compute_capability: str
    memory_gib: float
    driver: str | None
    cuda: str | None


def describe_gpu() -> GpuRecord | None:
    """Describe the current CUDA device, None where torch finds none."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return GpuRecord(
        name=properties.name,
        compute_capability=f"{properties.major}.{properties.minor}",
        memory_gib=round(properties.total_memory / 2**30, 1),
        driver=_driver(),
        cuda=torch.version.cuda,
    )


def _driver() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    lines = told.stdout.split() if told.returncode == 0 else []
    return lines[0] if lines else None
