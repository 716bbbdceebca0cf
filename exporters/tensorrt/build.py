"""Building a TensorRT engine from an ONNX file."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from exporters.errors import EngineError, MissingRuntimeError
from exporters.graph_precision import GraphWeights, graph_weights
from exporters.hashing import file_sha256
from exporters.machine.gpu import describe_gpu
from exporters.spec import ModelSpec, TensorSpec
from exporters.tensorrt.bindings import Bindings, load_bindings
from exporters.tensorrt.engine_record import NO_GPU, EngineRecord
from exporters.tensorrt.log import BuilderLog
from exporters.tensorrt.network import load_graph, network_tensors, parse_network
from exporters.tensorrt.precision_check import (
    PrecisionCheck,
    check_network,
    check_plan,
    compiled_in_log,
    inspect_engine,
)
from exporters.tensorrt.profiles import OptimizationProfile
from exporters.tensorrt.progress import BuildProgress
from exporters.tensorrt.settings import EngineSettings
from exporters.variant import Precision

PLAN_SUFFIX, RECORD_SUFFIX, LOG_SUFFIX, TIMING_SUFFIX = ".plan", ".json", ".log", ".timing"
_UNUSED_CACHE = "timing cache will not be used"
_DEFAULT_SETTINGS = EngineSettings()


@dataclass(frozen=True)
class EngineArtefact:
    """A built engine.

    Attributes:
        plan: the serialized engine.
        record_path: the JSON file beside it.
        log: what the builder said.
        timing_cache: the kernel times that the build measured, to start the next one from.
        record: what the JSON file holds.
        build_s: how long parsing and building took, in seconds.

    """

    plan: Path
    record_path: Path
    log: Path
    timing_cache: Path
    record: EngineRecord
    build_s: float


@dataclass(frozen=True)
class _Built:
    """What a build leaves in memory."""

    plan: Any
    timing_cache: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    decomposable: tuple[str, ...]
    precision_check: PrecisionCheck


def engine_from_onnx(
    path: Path,
    spec: ModelSpec,
    precision: Precision,
    folder: Path,
    name: str = "model",
    settings: EngineSettings = _DEFAULT_SETTINGS,
    progress: Callable[[float], None] = lambda _: None,
) -> EngineArtefact:
    """Build an engine, check its precision, and write it with its record, its log and its timing cache.

    The precision is that of the graph, which is strongly typed; it is checked before the build and after it.
    The files are NAME.plan, NAME.json, NAME.log and NAME.timing. They appear once all is done, the record last;
    where anything fails there are none.

    Args:
        path: the ONNX file; attention may be the standard operator or decomposed.
        spec: the model's inputs, outputs and longest sequence.
        precision: what the graph has to be in.
        folder: where the files go; it is there already.
        name: what they are called.
        settings: how to build.
        progress: called with the share of the build that is done; what it raises ends the build.

    Raises:
        MissingRuntimeError: TensorRT is not installed, or cannot start here.
        ShapeError: a profile is longer than the model reads.
        EngineError: the graph is in another precision, TensorRT refuses it or a setting, or the build fails.

    """
    bindings = load_bindings(settings.bindings)
    profiles = settings.profiles_for(spec.max_positions)
    model = load_graph(path)
    weights = graph_weights(model, precision)
    log, reporter = BuilderLog(), BuildProgress(progress)
    began = time.perf_counter()
    built = _build(bindings, path, model, weights, spec, precision, settings, profiles, log, reporter)
    build_s = time.perf_counter() - began
    names = [f"{name}{suffix}" for suffix in (PLAN_SUFFIX, LOG_SUFFIX, TIMING_SUFFIX, RECORD_SUFFIX)]
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as temporary:
        plan, log_path, timing, record_path = (Path(temporary) / file for file in names)
        plan.write_bytes(built.plan)
        log.write(log_path, path.parent)
        timing.write_bytes(built.timing_cache)
        gpu = describe_gpu()
        record = EngineRecord(
            bindings=bindings.name,
            bindings_version=bindings.version,
            gpu=gpu,
            gpu_missing=None if gpu else NO_GPU,
            profiles=tuple(map(str, profiles)),
            inputs=built.inputs,
            outputs=built.outputs,
            precision=precision,
            precision_check=built.precision_check,
            builder_flags=settings.builder_flags,
            optimization_level=settings.optimization_level,
            workspace_mib=settings.workspace_mib,
            hardware_compatibility=settings.hardware_compatibility,
            compute_capabilities=settings.compute_capabilities,
            profiling_verbosity=settings.profiling_verbosity,
            decomposable_attention=built.decomposable,
            onnx_sha256=file_sha256(path),
            onnx_data_sha256={file: file_sha256(path.parent / file) for file in _external_files(model)},
            plan_sha256=file_sha256(plan),
            plan_bytes=plan.stat().st_size,
            timing_cache_sha256=file_sha256(timing),
            timing_cache_from_sha256=file_sha256(settings.timing_cache) if settings.timing_cache else None,
            pruning_plan_sha256={x.key: x.value for x in model.metadata_props}.get("kprune.plan_sha256"),
        ).sealed()
        record.write(record_path)
        for file in names:
            (Path(temporary) / file).replace(folder / file)
    plan, log_path, timing, record_path = (folder / file for file in names)
    progress(1.0)
    return EngineArtefact(plan, record_path, log_path, timing, record, build_s)


def _build(
    bindings: Bindings,
    path: Path,
    model: onnx.ModelProto,
    weights: GraphWeights,
    spec: ModelSpec,
    precision: Precision,
    settings: EngineSettings,
    profiles: tuple[OptimizationProfile, ...],
    log: BuilderLog,
    reporter: BuildProgress,
) -> _Built:
    trt = bindings.module
    logger, monitor = log.logger(trt), reporter.monitor(trt)
    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError) as error:  # the factory of the bindings gave none
        raise MissingRuntimeError(
            f"{bindings} cannot start on this machine: {'; '.join(log.errors()) or error}."
        ) from error
    network = parse_network(bindings, builder, logger, path, model)
    inputs, outputs = network_tensors(bindings, network, spec)
    matmuls = check_network(bindings, network, weights, precision)
    decomposable = bindings.decomposable_attention(network)
    config = _configure(bindings, builder, settings, log)
    config.progress_monitor = monitor
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        low, best, high = ((x.batch, x.sequence) for x in (shapes.min, shapes.opt, shapes.max))
        for tensor in spec.inputs:
            profile.set_shape(tensor, low, best, high)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"{bindings} refuses the profile {shapes}: {'; '.join(log.errors())}.")
    before = len(log.entries)
    plan = builder.build_serialized_network(network, config)
    reporter.raise_if_failed()
    if plan is None:
        reasons = "; ".join(log.errors(before)) or "it does not say why"
        raise EngineError(f"{bindings} cannot build an engine of {path}: {reasons}.")
    if any(_UNUSED_CACHE in message for message in log.complaints()):
        raise EngineError(
            f"{bindings} cannot use the timing cache {settings.timing_cache}: it is damaged, or of another version "
            "or GPU: leave it out."
        )
    information = _layer_information(bindings, logger, plan, log)
    weights_alone = not (settings.strip_plan or settings.version_compatible)
    checked = check_plan(matmuls, weights, precision, information, len(profiles), plan.nbytes, weights_alone)
    return _Built(plan, bytes(config.get_timing_cache().serialize()), inputs, outputs, decomposable, checked)


def _configure(bindings: Bindings, builder: Any, settings: EngineSettings, log: BuilderLog) -> Any:
    """Make a builder configuration; a setting that the compiler complains of is an error, as it would not hold."""
    config = builder.create_builder_config()

    def put(what: str, action: Callable[[], Any]) -> None:
        before = len(log.entries)
        refused = action() is False
        complaints = log.complaints(before)
        if refused or complaints:
            raise EngineError(f"{bindings} does not take {what}: {'; '.join(complaints) or 'it does not say why'}.")

    def setting(attribute: str, value: Any) -> None:
        put(f"{attribute} {getattr(value, 'name', value)}", lambda: setattr(config, attribute, value))

    config.clear_flag(bindings.member("BuilderFlag", "TF32"))  # the compiler's default is on
    for flag in settings.builder_flags:
        member = bindings.member("BuilderFlag", flag)
        put(f"the flag {flag}", partial(config.set_flag, member))
    setting("builder_optimization_level", settings.optimization_level)
    setting("profiling_verbosity", bindings.member("ProfilingVerbosity", settings.profiling_verbosity.upper()))
    if settings.hardware_compatibility != "none":
        level = bindings.member("HardwareCompatibilityLevel", settings.hardware_compatibility.upper())
        setting("hardware_compatibility_level", level)
    if settings.workspace_mib is not None:
        limit = settings.workspace_mib * 2**20
        pool = bindings.member("MemoryPoolType", "WORKSPACE")
        put(f"a workspace of {settings.workspace_mib} MiB", lambda: config.set_memory_pool_limit(pool, limit))
    if settings.compute_capabilities:
        bindings.set_compute_capabilities(config, settings.compute_capabilities)
    try:
        measured = settings.timing_cache.read_bytes() if settings.timing_cache else b""
    except FileNotFoundError:
        raise EngineError(f"The timing cache {settings.timing_cache} is missing: leave it out.") from None
    put(
        f"the timing cache {settings.timing_cache or ''}".rstrip(),
        lambda: config.set_timing_cache(config.create_timing_cache(measured), False),
    )
    return config


def _layer_information(bindings: Bindings, logger: Any, plan: Any, log: BuilderLog) -> tuple[str, str | None]:
    """Return the source of information about the compiled layers and its text, or why there is none and None."""
    inspected = inspect_engine(bindings, logger, plan)
    if inspected is not None:
        return "the engine inspector", inspected
    logged = compiled_in_log(log)
    if logged is not None:
        return "the builder's log", logged
    return "no GPU to load the engine for the inspector, and the builder's log lists no layers", None


def _external_files(model: onnx.ModelProto) -> list[str]:
    """Return the names of the files that weights lie in beside the ONNX file."""
    entries = [entry for stored in model.graph.initializer for entry in stored.external_data]
    return sorted({entry.value for entry in entries if entry.key == "location"})
