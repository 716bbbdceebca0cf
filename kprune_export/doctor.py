"""Runtimes that this machine can run, and what to install for the others."""

import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from pydantic import BaseModel, ConfigDict


class Finding(BaseModel):
    """One thing that was looked for.

    Attributes:
        name: what it is.
        found: whether it is there and works.
        needed: whether the product cannot do its main job without it.
        detail: its version, or what is wrong.
        remedy: the line that installs it, where it is missing and can be installed.

    """

    model_config = ConfigDict(frozen=True)

    name: str
    found: bool
    needed: bool
    detail: str
    remedy: str | None = None


def examine() -> tuple[Finding, ...]:
    """Look for everything that some part of the product uses."""
    return (
        _machine(),
        _int8(),
        *(_package(name, module) for name, module in (("transformers", "transformers"), ("onnx", "onnx"))),
        *_torch(),
        *_onnxruntime(),
        _gpu(),
        _tensorrt(),
        *_triton(),
        _package(
            "sentence-transformers",
            "sentence_transformers",
            needed=False,
            remedy='pip install "kprune-export[sentence]"',
        ),
    )


def _machine() -> Finding:
    from exporters.machine.description import describe_machine

    machine = describe_machine()
    detail = (
        f"{machine.cpu_model}, {machine.processors}, {machine.memory_gib} GiB, {machine.system}, "
        f"Python {machine.python}"
    )
    return Finding(name="machine", found=True, needed=True, detail=detail)


def _int8() -> Finding:
    from exporters.machine.description import describe_machine

    machine = describe_machine()
    sets = ", ".join(machine.instruction_sets) or "no instruction sets that this system lists"
    if machine.multiplies_int8:
        detail = f"{sets}: int8 is usually 1.8 to 2.8 times as fast as fp32 before pruning, and less after it"
    else:
        detail = f"{sets}, no 8-bit products: int8 is usually 1.2 to 1.5 times as fast as fp32, and pruning gains more"
    return Finding(name="int8", found=machine.multiplies_int8, needed=False, detail=detail)


def _package(name: str, module: str, *, needed: bool = True, remedy: str | None = None) -> Finding:
    try:
        return Finding(name=name, found=find_spec(module) is not None, needed=needed, detail=version(name))
    except PackageNotFoundError:
        return Finding(
            name=name,
            found=False,
            needed=needed,
            detail="not installed",
            remedy=remedy or f"pip install {name}",
        )


def _torch() -> tuple[Finding, ...]:
    import torch

    if torch.cuda.is_available():
        cuda = Finding(name="torch CUDA", found=True, needed=False, detail=torch.cuda.get_device_name())
    else:
        why = "a CPU build" if torch.version.cuda is None else "no CUDA device is visible"
        cuda = Finding(name="torch CUDA", found=False, needed=False, detail=why)
    return Finding(name="torch", found=True, needed=True, detail=str(torch.__version__)), cuda


def _onnxruntime() -> tuple[Finding, ...]:
    try:
        import onnxruntime
    except ImportError as error:
        return (
            Finding(
                name="onnxruntime",
                found=False,
                needed=True,
                detail=str(error),
                remedy="pip install onnxruntime-gpu",
            ),
        )
    available = onnxruntime.get_available_providers()
    findings = [Finding(name="onnxruntime", found=True, needed=True, detail=onnxruntime.__version__)]
    for provider in ("CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"):
        is_cpu = provider.startswith("CPU")
        works = provider in available and (is_cpu or _has_gpu())
        detail = "ready" if works else "in this build, but there is no GPU" if provider in available else "not in it"
        findings.append(Finding(name=f"onnxruntime {provider}", found=works, needed=is_cpu, detail=detail))
    return tuple(findings)


def _has_gpu() -> bool:
    return _gpu().found


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding(name="NVIDIA GPU", found=False, needed=False, detail="nvidia-smi is not there, so no driver is")
    query = [program, "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    result = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    lines = result.stdout.strip().splitlines()
    if result.returncode != 0 or not lines:
        return Finding(name="NVIDIA GPU", found=False, needed=False, detail="nvidia-smi finds none")
    return Finding(name="NVIDIA GPU", found=True, needed=False, detail="; ".join(lines))


def _tensorrt() -> Finding:
    remedy = 'pip install "kprune-export[tensorrt]"'
    if find_spec("tensorrt") is None:
        return Finding(name="tensorrt", found=False, needed=False, detail="not installed", remedy=remedy)
    try:
        import tensorrt
    except (ImportError, OSError, RuntimeError) as error:
        return Finding(name="tensorrt", found=False, needed=False, detail=f"does not load: {error}", remedy=remedy)
    return Finding(name="tensorrt", found=True, needed=False, detail=str(tensorrt.__version__))


def _triton() -> tuple[Finding, ...]:
    server = shutil.which("tritonserver")
    return (
        Finding(
            name="tritonserver",
            found=server is not None,
            needed=False,
            detail=server or "not on the PATH",
        ),
        _package("tritonclient", "tritonclient", needed=False, remedy='pip install "kprune-export[triton]"'),
    )
