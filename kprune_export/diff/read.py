"""Reading what a bundle says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporters.onnx.write import GraphRecord
from exporters.parity.check import ParityReport
from exporters.tensorrt.build import RECORD_SUFFIX
from exporters.tensorrt.engine_record import EngineRecord
from exporters.timing.latency import LatencyReport
from kprune_export.bundle.layout import ENGINES, FIDELITY, GRAPHS, LATENCY, ONNX_FOLDER, PARITY, PLAN
from kprune_export.bundle.manifest import Manifest
from kprune_export.bundle.variant_report import Reports, ReportT
from kprune_export.bundle.verify import verify_bundle
from kprune_export.errors import VerificationError
from kprune_export.evaluation.fidelity import FidelityReport
from pruning.plan import PruningPlan


@dataclass(frozen=True)
class BundleContent:
    """A bundle's manifest, plan and reports; what it does not hold is None or empty. Reports are by variant.

    Attributes:
        engine_bytes: the sizes of TensorRT engines.

    """

    path: Path
    manifest: Manifest
    plan: PruningPlan | None
    graphs: Mapping[str, GraphRecord]
    parity: Mapping[str, ParityReport]
    fidelity: Mapping[str, FidelityReport]
    latency: Mapping[str, LatencyReport]
    engine_bytes: Mapping[str, int]


def read_bundle(bundle: Path) -> BundleContent:
    """Read any folder with a manifest: of prune-and-build, prune, export or validate.

    Raises:
        BundleError: there is no manifest, or a report is of another version of this program.
        VerificationError: the files are not those of the manifest.

    """
    manifest, difference = verify_bundle(bundle)
    if difference:
        raise VerificationError(f"{bundle} has changed since it was made: {'; '.join(difference.lines())}.")
    listed = {file.path for file in manifest.files}

    def reports(kind: type[Reports[ReportT]], name: str) -> dict[str, ReportT]:
        return kind.read(bundle / name).variants if name in listed else {}

    graphs = reports(Reports[GraphRecord], f"{ONNX_FOLDER}/{GRAPHS}")
    records = {name: f"{ENGINES}/{Path(graph.file.name).with_suffix(RECORD_SUFFIX)}" for name, graph in graphs.items()}
    return BundleContent(
        path=bundle,
        manifest=manifest,
        plan=PruningPlan.read(bundle / PLAN) if PLAN in listed else None,
        graphs=graphs,
        parity=reports(Reports[ParityReport], PARITY),
        fidelity=reports(Reports[FidelityReport], FIDELITY),
        latency=reports(Reports[LatencyReport], LATENCY),
        engine_bytes={
            name: EngineRecord.read(bundle / path).plan_bytes for name, path in records.items() if path in listed
        },
    )
