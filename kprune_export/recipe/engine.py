"""Settings of TensorRT engines."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from exporters.tensorrt.bindings import BindingsName
from exporters.tensorrt.profiles import OptimizationProfile
from exporters.tensorrt.settings import EngineSettings, HardwareCompatibility
from kprune_export.recipe.settings import Section, Setting, Use, uses

_ENGINES = uses(Use.ENGINES)


class EngineSection(Section):
    """How engines are built; see `exporters.tensorrt.settings.EngineSettings`."""

    panel: ClassVar[str] = "TensorRT engines"

    profile: Annotated[
        tuple[str, ...],
        Setting(
            "An optimization profile, as min=1x1,opt=8x128,max=32x512; may be repeated.",
            _ENGINES,
            shown="from 1x1 to 32 texts of full length, tuned for 8x128",
            metavar="PROFILE",
            commas=False,
        ),
    ] = ()
    tensorrt_bindings: Annotated[
        BindingsName,
        Setting(
            "tensorrt, for this machine's GPU, or tensorrt_rtx, ahead of time for GPUs of other machines.", _ENGINES
        ),
    ] = "tensorrt"
    workspace_mib: Annotated[
        int | None,
        Field(ge=1, le=2**40),
        Setting("The most memory in MiB that a kernel may use.", _ENGINES, shown="all there is"),
    ] = None
    optimization_level: Annotated[
        int, Field(ge=0, le=5), Setting("How hard the builder looks for fast kernels, 0 to 5.", _ENGINES)
    ] = 3
    timing_cache: Annotated[Path | None, Setting("A timing cache of an earlier build to start from.", _ENGINES)] = None
    hardware_compatibility: Annotated[
        HardwareCompatibility, Setting("Which other GPUs the engine has to run on.", _ENGINES)
    ] = "none"
    compute_capability: Annotated[
        tuple[str, ...],
        Setting(
            "A GPU that tensorrt_rtx builds for, as 8.6; may be repeated or comma-separated.", _ENGINES, metavar="X.Y"
        ),
    ] = ()
    version_compatible: Annotated[bool, Setting("Let later versions of TensorRT run it.", _ENGINES)] = False
    refit: Annotated[bool, Setting("Let its weights be replaced later.", _ENGINES)] = False
    strip_plan: Annotated[bool, Setting("Leave out the weights that can be refitted.", _ENGINES)] = False
    weight_streaming: Annotated[bool, Setting("Let weights stay in host memory while it runs.", _ENGINES)] = False
    profiling_verbosity: Annotated[
        Literal["none", "layer_names_only", "detailed"],
        Setting("The detail in which the engine describes its layers; detailed lets their types be checked.", _ENGINES),
    ] = "detailed"
    tf32: Annotated[bool, Setting("Let fp32 MatMuls compute in TF32; parity then has the error of fp16.", _ENGINES)] = (
        False
    )

    @property
    def engine(self) -> EngineSettings:
        """How engines are built.

        Raises:
            EngineError: settings exclude each other.
            ShapeError: a profile is malformed.

        """
        return EngineSettings(
            bindings=self.tensorrt_bindings,
            profiles=tuple(OptimizationProfile.parse(text) for text in self.profile),
            compute_capabilities=self.compute_capability,
            **{name: getattr(self, name) for name in _AS_THEY_ARE},
        )


_AS_THEY_ARE = tuple(name for name in EngineSection.model_fields if name in EngineSettings.model_fields)
"""The settings that an engine's settings have under the same name."""
