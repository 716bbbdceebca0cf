"""Encoders on a server, made from a bundle's variants."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exporters.errors import VariantError
from exporters.onnx.write import GraphRecord
from exporters.parity.check import ParityReport
from exporters.tensorrt.build import PLAN_SUFFIX, RECORD_SUFFIX
from exporters.tensorrt.engine_record import EngineRecord, check_plan
from exporters.tensorrt.profiles import OptimizationProfile
from exporters.timing.latency import LatencyReport
from exporters.variant import Precision, Runtime, Variant
from kprune_export.bundle.layout import ENGINES, GRAPHS, LATENCY, ONNX_FOLDER, PARITY, Files
from kprune_export.bundle.variant_report import Reports
from kprune_export.errors import BundleError
from kprune_export.model_export import tolerance_of
from kprune_export.triton import scaling
from kprune_export.triton.machines import Timings
from kprune_export.triton.repository_record import Backend, EncoderRecord, MachineConfig
from kprune_export.triton.tensors import ServedTensor, check_same, graph_tensors

GRAPH_FILE, PLAN_FILE = "model.onnx", "model.plan"


@dataclass(frozen=True)
class ServedEncoder:
    """An encoder, and the files of the bundle that go into its version's folder, by their names there."""

    record: EncoderRecord
    files: dict[str, Path]


def choose_variants(there: Sequence[str], wanted: Sequence[str], backend: Backend | None) -> dict[Variant, Backend]:
    """Return the variants to serve, each with its backend.

    Args:
        there: the bundle's variants.
        wanted: those to serve; empty for all that the backend can.
        backend: what serves them; None for each one's own: TensorRT's for engines, ONNX Runtime's for graphs.

    Raises:
        BundleError: a variant is not there, or the backend cannot serve it.

    """
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise BundleError(f"The bundle has no {unknown[0]}: its variants are {', '.join(there)}.")
    chosen: dict[Variant, Backend] = {}
    if odd := [name for name in there if not _is_variant(name)]:
        raise BundleError(f"The bundle's manifest names the variant {odd[0]!r}, which this version does not know.")
    for name in wanted or there:
        variant = Variant(*_parts(name))
        if variant.runtime is Runtime.OPENVINO:
            if wanted:
                raise BundleError(f"{name} cannot be served by Triton yet: name variants of ONNX Runtime or TensorRT.")
            continue
        own: Backend = "tensorrt" if variant.runtime is Runtime.TENSORRT else "onnxruntime"
        if backend is None or (backend == "tensorrt") == (own == "tensorrt"):
            chosen[variant] = backend or own
        elif wanted:
            raise BundleError(f"The backend {backend} cannot serve {name}, whose own is {own}: leave out --backend.")
    if not chosen:
        raise BundleError(f"The backend {backend} can serve none of the bundle's variants: {', '.join(there)}.")
    return chosen


def serve_variant(
    files: Files,
    variant: Variant,
    backend: Backend,
    name: str,
    max_positions: int,
    timings: Sequence[Timings] = (),
) -> ServedEncoder:
    """Decide how a variant is served.

    Args:
        files: where the bundle's files are, by their paths in it.
        variant: which of its variants.
        backend: what runs it.
        name: the beginning of the model's name.
        max_positions: the longest sequence that the model reads, in tokens.
        timings: what was timed on each machine.

    Raises:
        BundleError: the bundle's files contradict each other.
        EngineError: the engine and its record do not belong together.

    """
    path = files(ONNX_FOLDER) / variant.file_name
    graph = Reports[GraphRecord].read_one(files(ONNX_FOLDER) / GRAPHS, variant)
    latency = Reports[LatencyReport].read(files(LATENCY)).variants.get(str(variant))
    inputs, outputs = graph_tensors(path)
    served = {GRAPH_FILE: path}
    if graph.file.external_data:
        served[graph.file.external_data] = path.with_name(graph.file.external_data)
    profiles: tuple[str, ...] = ()
    if backend == "tensorrt":
        plan = files(ENGINES) / f"{variant.stem}{PLAN_SUFFIX}"
        engine = EngineRecord.read(plan.with_suffix(RECORD_SUFFIX))
        check_plan(engine, plan)
        for side, other in ((inputs, engine.inputs), (outputs, engine.outputs)):
            check_same(side, other, str(variant))
        served, profiles = {PLAN_FILE: plan}, engine.profiles
        optimized = engine.optimization_profiles
        limits = scaling.profile_limits(optimized)
    else:
        optimized = ()
        parity = Reports[ParityReport].read_one(files(PARITY), variant)
        limits = scaling.validated_limits(parity, latency, max_positions)
    default = _served_as(("", ""), variant, limits, latency, optimized)
    record = EncoderRecord(
        name=f"{name}-{variant}",
        variant=str(variant),
        backend=backend,
        file=next(iter(served)),
        inputs=tuple(map(ServedTensor.of, inputs)),
        outputs=tuple(map(ServedTensor.of, outputs)),
        max_batch=limits.max_batch,
        min_tokens=limits.min_tokens,
        max_tokens=limits.max_tokens,
        preferred=default.preferred,
        delay_us=default.delay_us,
        instances=default.instances,
        gpu=scaling.instances(variant.runtime, latency).gpu,
        threads=default.threads,
        profiles=profiles,
        warmup=default.warmup,
        reasons=default.reasons,
        tolerance=tolerance_of(variant, graph),
        configs=tuple(
            _served_as((timed.name, timed.machine), variant, limits, timed.reports[str(variant)], optimized)
            for timed in timings
            if str(variant) in timed.reports
        ),
    )
    return ServedEncoder(record, served)


def _served_as(
    machine: tuple[str, str],
    variant: Variant,
    limits: scaling.Limits,
    latency: LatencyReport | None,
    profiles: Sequence[OptimizationProfile],
) -> MachineConfig:
    """Return what follows from what was timed on a machine, given by its name and in words."""
    name, words = machine
    batching = scaling.batching(limits, latency, profiles)
    copies = scaling.instances(variant.runtime, latency)
    return MachineConfig(
        name=name,
        machine=words,
        preferred=batching.preferred,
        delay_us=batching.delay_us if batching.merges else None,
        instances=copies.count,
        threads=copies.threads,
        warmup=tuple(map(str, scaling.warmup_shapes(limits, latency, profiles))),
        reasons=(limits.reason, batching.reason, copies.reason),
    )


def _is_variant(name: str) -> bool:
    try:
        return str(Variant(*_parts(name))) == name
    except (ValueError, VariantError):
        return False


def _parts(name: str) -> tuple[Runtime, Precision]:
    runtime, _, precision = name.rpartition("-")
    return Runtime(runtime), Precision(precision)
