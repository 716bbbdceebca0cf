"""Reports on each variant of a bundle, and the files that contain them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from pydantic import Field

from exporters.documents import Document
from exporters.onnx.write import GraphRecord
from exporters.parity.check import ParityReport
from exporters.spec import Shape
from exporters.tensorrt.build import PLAN_SUFFIX, RECORD_SUFFIX
from exporters.tensorrt.engine_record import EngineRecord
from exporters.timing.latency import LatencyReport, TimingSettings
from exporters.trtexec import TrtexecModel, trtexec_command
from exporters.variant import Runtime, Variant
from kprune_export.bundle.layout import ENGINES, FIDELITY, GRAPHS, LATENCY, ONNX_FOLDER, PARITY
from kprune_export.errors import BundleError
from kprune_export.evaluation.fidelity import FidelityReport

ReportT = TypeVar("ReportT", ParityReport, FidelityReport, LatencyReport, GraphRecord)


class Reports(Document, Generic[ReportT]):
    """One kind of report, of each variant that has one, by the variant's name.

    Attributes:
        variants: of the variants of the model that ships, or, of the dense model, those that it is compared with.
        dense: of the dense model's own variants, against the dense model in fp32: what int8 alone would do.
        problems: why a variant that could be left out has no report, in a sentence.

    """

    noun, error, remedy = "file of reports", BundleError, "build the bundle again"
    format: Literal["kprune-reports"] = "kprune-reports"
    version: Literal[2] = 2
    variants: dict[str, ReportT]
    dense: dict[str, ReportT] = Field(default_factory=dict)
    problems: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def read_one(cls, path: Path, variant: Variant) -> ReportT:
        """Read one variant's report.

        Raises:
            BundleError: the file cannot be read, or has none of this variant.

        """
        reports = cls.read(path).variants
        if str(variant) not in reports:
            raise BundleError(f"{path} says nothing of {variant}: build the bundle again.")
        return reports[str(variant)]


@dataclass(frozen=True)
class VariantReport:
    """All that is known of one variant.

    Attributes:
        variant: which.
        graph: what its graph is.
        parity: how it compares with torch.
        fidelity: how its outputs compare with the dense model's; None where that was not measured.
        latency: how fast it is; None where it was not timed.
        engine: the engine's record, for TensorRT.

    """

    variant: Variant
    graph: GraphRecord
    parity: ParityReport | None
    fidelity: FidelityReport | None
    latency: LatencyReport | None
    engine: EngineRecord | None = None

    def trtexec(self, shapes: Sequence[Shape], settings: TimingSettings) -> tuple[str, ...]:
        """Return the commands, run in the bundle, with which trtexec measures an engine's latency at shapes."""
        if self.engine is None or self.engine.bindings != "tensorrt":
            return ()
        model = TrtexecModel.of_engine(Path(ENGINES) / f"{self.variant.stem}{PLAN_SUFFIX}", self.engine)
        return tuple(trtexec_command(model, shape, settings, cuda_graphs=False) for shape in shapes)


@dataclass(frozen=True)
class DenseVariantReport:
    """What is known of one of the dense model's own variants, which a pruned model has to be better than.

    Attributes:
        variant: its name.
        fidelity: how its outputs compare with the dense model's in fp32; None where that was not measured.
        latency: how fast it is beside the dense model in fp32; None where it was not timed.
        problem: why it was not measured; None where it was.

    """

    variant: str
    fidelity: FidelityReport | None
    latency: LatencyReport | None
    problem: str | None = None

    @property
    def size_bytes(self) -> int | None:
        """The size of its ONNX file; None where it was not timed."""
        return self.latency.subject.pruned_bytes if self.latency else None


def read_dense_reports(files: Callable[[str], Path]) -> tuple[DenseVariantReport, ...]:
    """Read what a run that measures found of the dense model's own variants.

    Args:
        files: where the outputs of stages are, by their paths in the bundle.

    """
    fidelity, latency = Reports[FidelityReport].read(files(FIDELITY)), Reports[LatencyReport].read(files(LATENCY))
    return tuple(
        DenseVariantReport(name, fidelity.dense.get(name), latency.dense.get(name), fidelity.problems.get(name))
        for name in dict.fromkeys((*fidelity.dense, *fidelity.problems))
    )


def read_variant_reports(
    variants: Sequence[Variant], files: Callable[[str], Path], *, measures: bool, timed: bool = True
) -> tuple[VariantReport, ...]:
    """Read what a run's stages found of each variant.

    Args:
        variants: which.
        files: where the outputs of stages are, by their paths in the bundle.
        measures: whether fidelity and latency were measured.
        timed: whether latency is read too.

    """
    graphs = Reports[GraphRecord].read(files(ONNX_FOLDER) / GRAPHS).variants
    parity = Reports[ParityReport].read(files(PARITY)).variants
    fidelity = Reports[FidelityReport].read(files(FIDELITY)).variants if measures else {}
    latency = Reports[LatencyReport].read(files(LATENCY)).variants if measures and timed else {}
    return tuple(
        VariantReport(
            variant=variant,
            graph=graphs[str(variant)],
            parity=parity.get(str(variant)),
            fidelity=fidelity.get(str(variant)),
            latency=latency.get(str(variant)),
            engine=_engine(variant, files),
        )
        for variant in variants
    )


def _engine(variant: Variant, files: Callable[[str], Path]) -> EngineRecord | None:
    if variant.runtime is not Runtime.TENSORRT:
        return None
    return EngineRecord.read(files(ENGINES) / f"{variant.stem}{RECORD_SUFFIX}")
