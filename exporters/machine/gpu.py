"""The GPU that a process uses, as engines and measurements have to know it."""

import shutil
import subprocess

from pydantic import BaseModel, ConfigDict


class GpuClock(BaseModel):
    """The clock of a GPU's multiprocessors at one moment."""

    model_config = ConfigDict(frozen=True)

    sm_mhz: int | None
    unknown: str | None
    """Why it is not known, where it is not."""


class GpuRecord(BaseModel):
    """A GPU and what drives it."""

    model_config = ConfigDict(frozen=True)

    name: str
    compute_capability: str
    memory_gib: float
    driver: str | None
    """The version of NVIDIA's driver, where nvidia-smi reports it."""
    cuda: str | None
    """The CUDA version that torch was built with."""


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
    queried = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    lines = queried.stdout.split() if queried.returncode == 0 else []
    return lines[0] if lines else None
