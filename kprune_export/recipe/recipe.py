"""The recipe: everything that a run is asked to do, from flags, a YAML file, or both."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from exporters.precision import Precision
from exporters.spec import Shape
from exporters.tensorrt.bindings import BindingsName
from exporters.tensorrt.profiles import OptimizationProfile
from exporters.tensorrt.settings import EngineSettings, HardwareCompatibility
from exporters.timing.latency import TimingSettings
from exporters.variant import Runtime, Variant
from kprune_export.errors import RecipeError
from kprune_export.output_folder.inputs import Place
from kprune_export.recipe.file_names import check_names
from kprune_export.recipe.input_names import shipped_settings
from kprune_export.recipe.yaml_file import read_settings
from pruning.calibration.examples import Columns
from pruning.methods.settings import DEFAULT_METHOD, LONGEST_SEQUENCE, PruningSettings, Strength, StrengthOrNone

RETRIEVAL_GATES = {
    "min_overlap": "top_10_overlap",
    "min_ndcg": "ndcg_at_10",
    "min_mrr": "mrr_at_10",
    "min_recall": "recall_at_10",
    "min_index_overlap": "index_top_10_overlap",
    "min_index_ndcg": "index_ndcg_at_10",
    "min_index_mrr": "index_mrr_at_10",
    "min_index_recall": "index_recall_at_10",
}
"""The gates about what an embedder finds, and the figure that each is about."""
GATE_NAMES = ("min_speedup", "min_agreement", "min_metric", "max_size_mib", *RETRIEVAL_GATES)
"""The settings that are gates."""
PERMISSIONS = ("allow_pickle",)
"""The settings that permit what is not safe with every input: only a user gives them, no file that came with it."""
Pooling = Literal["mean", "cls", "pooler", "none"]
_RESULT_NEUTRAL = {"output", "threads"}
_PRUNING = {
    "flops_reduction",
    "target_speedup",
    "target_latency_ms",
    "target_shapes",
    "align",
    "latency_table",
    "table_carried",
    "sensitivity",
    "calibration",
    "samples",
    "seed",
    "sequence_length",
    "device",
    "offload",
    "method",
    "temperature",
    "balance",
    "head_weight",
    "ridge",
}
MOST_THREADS = 4096
"""More than any machine has; numbers far above it do not fit into what the runtimes take."""
_TARGETS = {"target_speedup", "target_latency_ms", "target_shapes"}
"""What is to be met, which a run that prunes nothing judges too."""
_CALIBRATING = {"calibration", "samples", "seed"}
"""What int8's ranges are measured on, whether or not anything is pruned."""
_ENGINES = {
    "profile",
    "tensorrt_bindings",
    "workspace_mib",
    "optimization_level",
    "timing_cache",
    "hardware_compatibility",
    "compute_capability",
    "version_compatible",
    "refit",
    "strip_plan",
    "weight_streaming",
    "profiling_verbosity",
    "tf32",
}
_EXPORTING = {"runtime", "precision"}
_MEASURING = {
    "held_out",
    "evaluation",
    "label_column",
    "shapes",
    "timing_seconds",
    "isolate",
    "dense_int8",
    *GATE_NAMES,
}
_SERVING = {"triton", "triton_name", "triton_backend", "triton_text", "triton_pairs"}
_HOLDING_OUT = {"held_out", "evaluation"}
"""What is held out decides what can be calibrated on, whether or not it is measured on."""


class Recipe(BaseModel):
    """All settings of a run. The keys of a recipe file are these names, those of the flags with ``_``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str
    output: Path
    flops_reduction: float = 0.5
    target_speedup: Annotated[float, Field(gt=1)] | None = None
    target_latency_ms: Annotated[float, Field(gt=0)] | None = None
    target_shapes: tuple[str, ...] = ()
    align: Annotated[int, Field(ge=1, le=2**20)] | None = None
    latency_table: Path | None = None
    table_carried: bool = False
    sensitivity: Path | None = None
    calibration: str | None = None
    text_column: str | None = None
    pair_column: str | None = None
    label_column: str | None = None
    samples: Annotated[int, Field(ge=1)] = 1000
    held_out: Annotated[int, Field(ge=1)] = 200
    evaluation: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    sequence_length: Annotated[int, Field(ge=1, le=LONGEST_SEQUENCE)] = 128
    method: str = DEFAULT_METHOD
    temperature: Strength | None = None
    balance: StrengthOrNone | None = None
    head_weight: Strength | None = None
    ridge: StrengthOrNone | None = None
    device: str = "auto"
    offload: bool = False
    runtime: tuple[Runtime, ...] = (Runtime.ONNXRUNTIME,)
    precision: tuple[Precision, ...] = (Precision.FP32,)
    profile: tuple[str, ...] = ()
    tensorrt_bindings: BindingsName = "tensorrt"
    workspace_mib: Annotated[int, Field(ge=1, le=2**40)] | None = None
    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
    timing_cache: Path | None = None
    hardware_compatibility: HardwareCompatibility = "none"
    compute_capability: tuple[str, ...] = ()
    version_compatible: bool = False
    refit: bool = False
    strip_plan: bool = False
    weight_streaming: bool = False
    profiling_verbosity: Literal["none", "layer_names_only", "detailed"] = "detailed"
    tf32: bool = False
    shapes: tuple[str, ...] = ("1x128", "8x128")
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | None = None
    timing_seconds: Annotated[float, Field(gt=0, le=600)] = 3.0
    isolate: bool = False
    dense_int8: bool = True
    allow_pickle: bool = False
    pooling: Pooling | None = None
    min_speedup: Annotated[float, Field(gt=0)] | None = None
    min_agreement: float | None = None
    min_metric: float | None = None
    max_size_mib: Annotated[float, Field(gt=0)] | None = None
    min_overlap: float | None = None
    min_ndcg: float | None = None
    min_mrr: float | None = None
    min_recall: float | None = None
    min_index_overlap: float | None = None
    min_index_ndcg: float | None = None
    min_index_mrr: float | None = None
    min_index_recall: float | None = None
    triton: bool = False
    triton_name: str = "encoder"
    triton_backend: Literal["python", "onnxruntime", "tensorrt"] | None = None
    triton_text: bool = True
    triton_pairs: bool = False

    @field_validator("profile", mode="before")
    @classmethod
    def _one_profile(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("shapes", "target_shapes", "runtime", "precision", "compute_capability", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = (value,)
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return tuple(dict.fromkeys(part.strip() for text in value for part in text.split(",")))
        return value

    @field_validator("shapes", "runtime", "precision")
    @classmethod
    def _some(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("at least one is needed")
        return value

    @classmethod
    def build(cls, file: Path | None, overrides: Mapping[str, Any]) -> Self:
        """Read a recipe file, if there is one, and put the settings given explicitly over it.

        Raises:
            RecipeError: the file is not YAML or has unknown keys, or a value is not valid.
            SurroundingsError: a name in the file cannot be written as UTF-8.

        """
        values = read_settings(file, "recipe", tuple(cls.model_fields)) if file else {}
        check_names(values.values())
        try:
            return cls.model_validate({**values, **overrides})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "missing":
                how = "after the command's name" if name == "model" else f"with --{name}"
                raise RecipeError(f"The setting {name!r} is missing: give it {how}, or in a recipe.") from error
            raise RecipeError(
                f"The setting {name!r} is not valid: {problem['msg']}, but {reprlib.repr(problem['input'])} was given."
            ) from error

    @property
    def inputs(self) -> tuple[Place, ...]:
        """The files and folders that a run reads; ids on the Hugging Face hub among them."""
        return (
            ("model", self.model),
            ("calibration texts", self.calibration),
            ("evaluation texts", self.evaluation),
            ("latency table", self.latency_table),
            ("sensitivity curves", self.sensitivity),
            ("timing cache", self.timing_cache),
        )

    @property
    def targeted(self) -> bool:
        """Whether a latency is the budget, and not FLOPs."""
        return self.target_speedup is not None or self.target_latency_ms is not None

    @property
    def pruning(self) -> PruningSettings:
        """The settings of the pruning method; with a latency target there is no budget in them."""
        return PruningSettings(
            flops_reduction=None if self.targeted else self.flops_reduction,
            sequence_length=self.sequence_length,
            method=self.method,
            seed=self.seed,
            temperature=self.temperature,
            balance=self.balance,
            head_weight=self.head_weight,
            ridge=self.ridge,
        )

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants to make: every runtime in every precision.

        Raises:
            VariantError: a runtime cannot run a precision.

        """
        return tuple(Variant(runtime, precision) for runtime in self.runtime for precision in self.precision)

    @property
    def quantizes(self) -> bool:
        """Whether a variant is int8, for which calibration texts are needed."""
        return Precision.INT8 in self.precision

    @property
    def dense_int8_variants(self) -> tuple[Variant, ...]:
        """The int8 variants of the dense model that are measured beside the pruned ones.

        In every runtime that is exported to in int8, and in ONNX Runtime on the CPU also where int8 is not asked for:
        whether int8 alone would do is then known before pruning is chosen.
        """
        if not self.dense_int8:
            return ()
        return tuple(
            Variant(runtime, Precision.INT8)
            for runtime in self.runtime
            if self.quantizes or runtime is Runtime.ONNXRUNTIME
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
            workspace_mib=self.workspace_mib,
            optimization_level=self.optimization_level,
            timing_cache=self.timing_cache,
            hardware_compatibility=self.hardware_compatibility,
            compute_capabilities=self.compute_capability,
            version_compatible=self.version_compatible,
            refit=self.refit,
            strip_plan=self.strip_plan,
            weight_streaming=self.weight_streaming,
            profiling_verbosity=self.profiling_verbosity,
            tf32=self.tf32,
        )

    @property
    def columns(self) -> Columns:
        """The columns of the calibration and evaluation files that were named."""
        return Columns(self.text_column, self.pair_column, self.label_column)

    @property
    def timing(self) -> TimingSettings:
        """How long latency is measured."""
        return TimingSettings(seconds=self.timing_seconds)

    @property
    def parsed_shapes(self) -> tuple[Shape, ...]:
        """The shapes that latency is measured at, those of a target among them.

        Raises:
            ShapeError: one is malformed.

        """
        targets = (text.partition("=")[0] for text in self.target_shapes)
        return tuple(dict.fromkeys(Shape.parse(text) for text in (*self.shapes, *targets)))

    def for_record(self, *, prunes: bool, exports: bool, measures: bool) -> dict[str, Any]:
        """Return the settings that decide a run's result, as JSON values, for the manifest."""
        unused = (set() if prunes else _PRUNING) | (set() if measures else _MEASURING)
        unused -= _HOLDING_OUT if prunes else set()
        unused |= set() if exports else _EXPORTING
        unused |= set() if prunes and exports else _SERVING
        unused |= set() if exports and Runtime.TENSORRT in self.runtime else _ENGINES
        quantizes = self.quantizes or (measures and bool(self.dense_int8_variants))
        unused -= _CALIBRATING if exports and quantizes else set()
        unused |= {"flops_reduction"} if self.targeted else set()
        unused -= _TARGETS if measures else set()
        return self.model_dump(mode="json", exclude=_RESULT_NEUTRAL | unused)

    def to_yaml(self) -> str:
        """Return the settings that differ from the defaults, as a recipe file without the output folder.

        Inputs are called as in a manifest: those that lie elsewhere have to be named again.
        """
        values = self.model_dump(mode="json", exclude=_RESULT_NEUTRAL, exclude_defaults=True)
        text: str = yaml.safe_dump(shipped_settings(values), sort_keys=False, allow_unicode=True)
        return text.strip()


def read_gates(file: Path | None) -> dict[str, Any]:
    """Read a file of gates, if there is one: a YAML mapping with `GATE_NAMES` as keys, checked as a recipe's are.

    Raises:
        RecipeError: it cannot be read, is not a YAML mapping, or has unknown keys.

    """
    return read_settings(file, "gates file", GATE_NAMES) if file else {}
