"""Profiling a target: the latency table of a model's dimensions on this machine."""

from collections.abc import Callable, Sequence

from exporters.machine.description import MachineRecord
from exporters.parts import FinishedParts
from exporters.runners.onnxruntime_runner import pool_description
from exporters.spec import Shape
from exporters.timing.latency_table.measure import TIMING, TableRequest, measure_table
from exporters.timing.latency_table.table import LatencyTable
from kprune_export.latency_target.request import dimensions_of
from kprune_export.latency_target.timed_models import OnnxModels, TorchModels
from kprune_export.model_export import model_spec
from pruning.checkpoint.load import EncoderCheckpoint


def profile_target(
    dense: EncoderCheckpoint,
    models: OnnxModels | TorchModels,
    shapes: Sequence[Shape],
    align: int,
    threads: int,
    machine: MachineRecord,
    progress: Callable[[float], None] = lambda _: None,
    parts: FinishedParts | None = None,
) -> LatencyTable:
    """Measure a latency table.

    Args:
        dense: the checkpoint whose dimensions are measured; it is not changed.
        models: opens it at any widths, in a runtime and a precision.
        shapes: the shapes to time.
        align: FFN widths are multiples of this.
        threads: how many everything runs with, for the record.
        machine: this machine, for the record.
        progress: called with the share that is done.
        parts: where the times of finished models are kept and taken from.

    Raises:
        ExportError, EngineError, RunnerError: a model cannot be exported, built or run.

    """
    dimensions, timer = dimensions_of(dense), models.timer
    request = TableRequest(dimensions, model_spec(dense, {}), shapes, align, timer, threads)
    measured = measure_table(request, models.open, progress, parts)
    return LatencyTable(
        runtime=models.runtime,
        precision=models.precision.value,
        dimensions=dimensions,
        threads=threads,
        machine=machine,
        method=(
            f"stacks of alike layers, each in turn with one that stays the same, in blocks of about "
            f"{TIMING.block_s * 1000:.0f} ms, in one process with {pool_description()}; isotonic regression; "
            f"{timer.description}"
        ),
        shapes=measured,
    ).sealed()
