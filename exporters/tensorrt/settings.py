"""Settings of an engine build."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from exporters.errors import EngineError
from exporters.tensorrt.bindings import BindingsName
from exporters.tensorrt.profiles import OptimizationProfile

HardwareCompatibility = Literal["none", "ampere_plus", "same_compute_capability"]


class EngineSettings(BaseModel):
    """How an engine is built. What the compiler does not take is an error, never left out.

    The words are those of TensorRT's IBuilderConfig
    (https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Core/BuilderConfig.html).

    Raises:
        EngineError: settings exclude each other, or the bindings do not have them.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bindings: BindingsName = "tensorrt"
    profiles: tuple[OptimizationProfile, ...] = ()
    """One or several; `OptimizationProfile.default` where there is none."""
    workspace_mib: int | None = Field(default=None, ge=1)
    """The most memory that a kernel may use for intermediate results; None leaves it to TensorRT: all of the GPU's."""
    optimization_level: int = Field(default=3, ge=0, le=5)
    """How hard the builder looks for fast kernels; 3 is TensorRT's own default."""
    timing_cache: Path | None = None
    """A cache of measured kernel times, of an earlier build, to start from. What comes of it lies beside the plan."""
    hardware_compatibility: HardwareCompatibility = "none"
    """Which other GPUs the engine has to run on."""
    version_compatible: bool = False
    """Whether later versions of TensorRT have to run the engine."""
    refit: bool = False
    """Whether its weights can be replaced."""
    strip_plan: bool = False
    """Whether the weights that can be refitted are left out of the plan."""
    weight_streaming: bool = False
    """Whether weights can stay in host memory while the engine runs."""
    profiling_verbosity: Literal["none", "layer_names_only", "detailed"] = "detailed"
    """The detail in which the engine describes its layers; ``detailed`` lets the compiled layers' types be checked."""
    tf32: bool = False
    """Whether fp32 products may round their inputs to 10 bits of mantissa. TensorRT's default is yes; ours is no,
    because an fp32 engine then fails the parity that fp32 promises: TF32 has an error near that of fp16."""
    compute_capabilities: tuple[str, ...] = ()
    """The GPUs that tensorrt_rtx builds for ahead of time, such as ``8.6``; empty means its own default, Ampere (8.6)
    and later. TensorRT itself builds for the GPU that is there."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        rtx = self.bindings == "tensorrt_rtx"
        if self.compute_capabilities and not rtx:
            raise EngineError(
                f"compute_capabilities ({', '.join(self.compute_capabilities)}) are for tensorrt_rtx: TensorRT builds "
                "for the GPU that is there; hardware_compatibility says which others the engine has to run on."
            )
        for capability in self.compute_capabilities:
            if not re.fullmatch(r"[1-9]\d?\.\d", capability):
                raise EngineError(f"{capability!r} is not a compute capability: write it as in 8.6.")
        if rtx and self.hardware_compatibility != "none":
            raise EngineError(
                "hardware_compatibility is for TensorRT: with tensorrt_rtx name the GPUs by compute_capabilities."
            )
        if rtx and self.strip_plan and len(self.compute_capabilities) > 1:
            raise EngineError("tensorrt_rtx strips weights for one compute capability at most: name one.")
        return self

    def profiles_for(self, max_positions: int) -> tuple[OptimizationProfile, ...]:
        """Return the profiles to build, checked against the longest sequence that the model reads, in tokens.

        Raises:
            ShapeError: a profile has more tokens.

        """
        profiles = self.profiles or (OptimizationProfile.default(max_positions),)
        for profile in profiles:
            profile.check(max_positions)
        return profiles

    @property
    def builder_flags(self) -> tuple[str, ...]:
        """The members of BuilderFlag that these settings switch on."""
        wanted = {
            "TF32": self.tf32,
            "REFIT": self.refit,
            "STRIP_PLAN": self.strip_plan,
            "VERSION_COMPATIBLE": self.version_compatible,
            "WEIGHT_STREAMING": self.weight_streaming,
        }
        return tuple(name for name, on in wanted.items() if on)
