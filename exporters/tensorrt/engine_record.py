"""The record beside a plan: what it is, what it was made from and on, and whether it may be loaded here."""

import hashlib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from exporters.documents import Document
from exporters.errors import EngineError
from exporters.hashing import file_sha256
from exporters.machine.gpu import GpuRecord, describe_gpu
from exporters.spec import TensorSpec
from exporters.tensorrt.bindings import Bindings, BindingsName
from exporters.tensorrt.precision_check import PrecisionCheck
from exporters.tensorrt.profiles import OptimizationProfile
from exporters.tensorrt.settings import HardwareCompatibility
from exporters.variant import Precision

NO_GPU = "no CUDA device where the engine was built"


class EngineRecord(Document):
    """A TensorRT engine, as the JSON file beside it describes it.

    Attributes:
        bindings: the module that built it.
        bindings_version: its version, in full.
        gpu: the GPU that it was built on and for, None where it was built without one.
        gpu_missing: why there is none.
        profiles: the shapes that it takes, as `OptimizationProfile` reads them.
        inputs: its inputs, in order.
        outputs: its outputs, in order.
        precision: what its weights are in.
        precision_check: how that is known.
        builder_flags: the members of BuilderFlag that were on.
        optimization_level: of the builder.
        workspace_mib: the limit, None where there was none of ours.
        hardware_compatibility: the other GPUs that it runs on.
        compute_capabilities: the GPUs that it was built for ahead of time.
        profiling_verbosity: the detail in which it describes its layers.
        decomposable_attention: the attention layers that TensorRT may decompose where it has no kernel for them.
        onnx_sha256: the hash of the ONNX file.
        onnx_data_sha256: the hashes of its files of external data, by name.
        plan_sha256: the hash of the plan.
        plan_bytes: its size.
        timing_cache_sha256: the hash of the timing cache beside the plan.
        timing_cache_from_sha256: the hash of the one that the build started from.
        pruning_plan_sha256: the hash of the pruning plan, as the ONNX file's metadata has it; empty for a dense model.
        record_sha256: the hash of all the rest.

    """

    noun, error, remedy = "record of an engine", EngineError, "build the engine again"
    format: Literal["kprune-engine"] = "kprune-engine"
    version: Literal[2] = 2
    bindings: BindingsName
    bindings_version: str
    gpu: GpuRecord | None
    gpu_missing: str | None
    profiles: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: Precision
    precision_check: PrecisionCheck
    builder_flags: tuple[str, ...]
    optimization_level: int
    workspace_mib: int | None
    hardware_compatibility: HardwareCompatibility
    compute_capabilities: tuple[str, ...]
    profiling_verbosity: str
    decomposable_attention: tuple[str, ...]
    onnx_sha256: str
    onnx_data_sha256: dict[str, str]
    plan_sha256: str
    plan_bytes: int
    timing_cache_sha256: str
    timing_cache_from_sha256: str | None
    pruning_plan_sha256: str | None
    record_sha256: str = ""

    @property
    def optimization_profiles(self) -> tuple[OptimizationProfile, ...]:
        """The profiles, in the engine's order."""
        return tuple(OptimizationProfile.parse(text) for text in self.profiles)

    def sealed(self) -> Self:
        """Return the record with the hash of its own contents, by which an edit shows."""
        return self.model_copy(update={"record_sha256": self._contents_sha256()})

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        Document.write(self.sealed(), path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record and check that it is as it was written.

        Raises:
            EngineError: it is missing, not a record of this version, or was edited.

        """
        if not path.is_file():
            raise EngineError(f"{path} is missing: an engine is loaded only with the record of its build.")
        record = super().read(path)
        if record.record_sha256 != record._contents_sha256():
            raise EngineError(f"{path} was edited after the engine was built: build the engine again.")
        return record

    def _contents_sha256(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"record_sha256"}).encode()).hexdigest()


class EngineMachine(BaseModel):
    """What engines are loaded with.

    Attributes:
        bindings: the TensorRT module.
        version: its version, in full.
        gpu: the GPU, None where there is none.

    """

    model_config = ConfigDict(frozen=True)

    bindings: BindingsName
    version: str
    gpu: GpuRecord | None

    @classmethod
    def here(cls, bindings: Bindings) -> Self:
        """Describe this machine."""
        return cls(bindings=bindings.name, version=bindings.version, gpu=describe_gpu())


def check_plan(record: EngineRecord, path: Path) -> None:
    """Check that a plan is the one that a record describes.

    Raises:
        EngineError: it is missing, cut short, or another one.

    """
    if not path.is_file():
        raise EngineError(f"{path} is missing: build the engine again.")
    size = path.stat().st_size
    if size < record.plan_bytes:
        raise EngineError(
            f"{path} is cut short: it has {size:,} of {record.plan_bytes:,} bytes: copy or build the engine again."
        )
    if file_sha256(path) != record.plan_sha256:
        raise EngineError(f"{path} is not the plan that its record describes: build the engine again.")


def check_machine(record: EngineRecord, machine: EngineMachine) -> None:
    """Check that a machine can run the engine that a record describes.

    Plans are bound to the exact version of TensorRT, unless built version compatible, and to the GPU, unless
    built hardware compatible
    (https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/engine-compatibility.html).

    Raises:
        EngineError: the first thing that does not fit.

    """
    if machine.bindings != record.bindings:
        raise EngineError(
            f"The engine was built with {record.bindings}, but {machine.bindings} is to load it: "
            f"load it with {record.bindings}, or build it again."
        )
    if not _version_fits(record, machine.version):
        raise EngineError(
            f"The engine was built by {record.bindings} {record.bindings_version}, but {machine.version} is installed "
            "here: install that version, or build the engine again."
        )
    if machine.gpu is None:
        raise EngineError("An engine runs on an NVIDIA GPU, but torch finds none here.")
    reason = _gpu_misfit(record, machine.gpu)
    if reason is not None:
        raise EngineError(f"{reason}: build it again on this machine.")


def _version_fits(record: EngineRecord, version: str) -> bool:
    built, here = ([int(part) for part in text.split(".")] for text in (record.bindings_version, version))
    if "VERSION_COMPATIBLE" in record.builder_flags:
        return built[0] == here[0] and built <= here
    return built == here


def _gpu_misfit(record: EngineRecord, gpu: GpuRecord) -> str | None:
    here = f"this one is a {gpu.name} ({gpu.compute_capability})"
    if record.bindings == "tensorrt_rtx":
        if record.compute_capabilities:
            fits = gpu.compute_capability in record.compute_capabilities
            built_for = ", ".join(record.compute_capabilities)
        else:
            fits, built_for = _number(gpu.compute_capability) >= (8, 6), "8.6 and later"
        return None if fits else f"The engine was built for GPUs of compute capability {built_for}, but {here}"
    if record.gpu is None:
        return f"The engine was built without a GPU ({record.gpu_missing}), so that TensorRT cannot run it"
    built_on = f"{record.gpu.name} ({record.gpu.compute_capability})"
    match record.hardware_compatibility:
        case "none":
            fits = (gpu.name, gpu.compute_capability) == (record.gpu.name, record.gpu.compute_capability)
        case "same_compute_capability":
            fits = gpu.compute_capability == record.gpu.compute_capability
        case "ampere_plus":
            fits = _number(gpu.compute_capability) >= (8, 0)
    compatibility = record.hardware_compatibility
    return (
        None if fits else f"The engine was built for a {built_on}, hardware compatibility {compatibility}, but {here}"
    )


def _number(capability: str) -> tuple[int, int]:
    major, minor = capability.split(".")
    return int(major), int(minor)
