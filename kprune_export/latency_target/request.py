"""Latency requests of a recipe, checked before anything is done."""

import re

from exporters.errors import ShapeError
from exporters.machine.description import MachineRecord
from exporters.runners.availability import reason_it_does_not, runs_here
from exporters.spec import Shape
from exporters.timing.latency_table.table import EncoderDimensions, LatencyTable
from exporters.variant import Precision
from kprune_export.errors import TargetError
from kprune_export.latency_target.target_record import LatencyTarget, SensitivityRecord, TargetShape
from kprune_export.recipe.recipe import Recipe
from pruning.checkpoint.load import EncoderCheckpoint

_VECTOR = {Precision.INT8: 32}
"""FFN widths are multiples of what a kernel takes at a time; 16 in the other precisions."""


def default_alignment(precision: Precision) -> int:
    """Return what FFN widths are multiples of where nothing is said: 32 in int8, 16 otherwise."""
    return _VECTOR.get(precision, 16)


def dimensions_of(checkpoint: EncoderCheckpoint) -> EncoderDimensions:
    """Return a dense checkpoint's dimensions, as tables record them."""
    shape = checkpoint.family.encoder_shape(checkpoint.model.config)
    return EncoderDimensions(
        family=checkpoint.family.name,
        layers=shape.layers,
        hidden_size=shape.hidden_size,
        heads=shape.heads,
        head_size=shape.head_size,
        neurons=shape.neurons,
    )


def target_of(recipe: Recipe) -> LatencyTarget:
    """Return the target of a recipe that has one.

    Raises:
        ShapeError: a shape is malformed.
        TargetError: a weight is, or settings do not go together.

    """
    if recipe.target_speedup is not None and recipe.target_latency_ms is not None:
        raise TargetError("A speedup and a latency are both given as the target: give one of them.")
    shapes = tuple(_weighted(text) for text in recipe.target_shapes or recipe.shapes)
    if recipe.target_latency_ms is not None and len(shapes) != 1:
        raise TargetError(
            f"A latency in ms is at one shape, but there are {len(shapes)} ({', '.join(x.shape for x in shapes)}): "
            "name it with --target-shapes."
        )
    return LatencyTarget(speedup=recipe.target_speedup, latency_ms=recipe.target_latency_ms, shapes=shapes)


def _weighted(text: str) -> TargetShape:
    shape, _, weight = text.partition("=")
    if weight and not re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*", weight):
        raise TargetError(f"{text!r} is no shape with a weight: write them as in 8x128=3.")
    number = float(weight) if weight else 1.0
    if number <= 0:
        raise TargetError(f"The weight of a target's shape must be above 0, but is {weight} in {text!r}.")
    return TargetShape(shape=str(Shape.parse(shape)), weight=number)


def check_target(recipe: Recipe, source: EncoderCheckpoint, machine: MachineRecord, threads: int) -> None:
    """Refuse a target that cannot be searched for here, and tables that are not for it.

    Raises:
        TargetError: the target does not go with other settings, or the dense model meets it already.
        TableError: the latency table given is damaged, or is for something else.
        ShapeError: a shape is malformed or longer than the model reads.

    """
    target = target_of(recipe)
    if "flops_reduction" in recipe.model_fields_set:
        raise TargetError(f"A FLOPs reduction and a latency target ({target}) are both given: give one of them.")
    if recipe.method != "kprune":
        raise TargetError(f"A latency target needs the method kprune, but {recipe.method} is asked for.")
    if len(recipe.variants) != 1:
        raise TargetError(
            f"A latency target is for one runtime and one precision, but {len(recipe.variants)} variants are "
            "asked for: name one of each, and export the pruned checkpoint to the others with kprune-export export."
        )
    for x in target.shapes:
        if Shape.parse(x.shape).sequence > source.max_positions:
            raise ShapeError(f"The target's shape {x.shape} is longer than the {source.max_positions} tokens it reads.")
    variant = recipe.variants[0]
    if recipe.latency_table is None:
        if recipe.table_carried:
            raise TargetError(
                "--table-carried says that the latency table is another machine's: name it with --latency-table."
            )
        if not runs_here(variant.runtime):
            raise TargetError(
                f"{variant} cannot be timed here, because {reason_it_does_not(variant.runtime)}: measure a table "
                "on the machine that will serve it with kprune-export profile-target, and give it with "
                "--latency-table and --table-carried."
            )
    else:
        read_table(recipe, source, machine, threads)
    if recipe.sensitivity is not None:
        SensitivityRecord.read(recipe.sensitivity).check_model(dimensions_of(source))


def read_table(recipe: Recipe, source: EncoderCheckpoint, machine: MachineRecord, threads: int) -> LatencyTable:
    """Read the latency table that a recipe names, and check that it is for this run.

    Raises:
        TableError: it is damaged, or for something else.
        TargetError: the dense model meets the target already.

    """
    assert recipe.latency_table is not None  # noqa: S101 - the caller has checked it
    table, variant, target = LatencyTable.read(recipe.latency_table), recipe.variants[0], target_of(recipe)
    table.check_model(dimensions_of(source), variant.runtime.value, variant.precision.value)
    if not recipe.table_carried:
        table.check_machine(machine, threads)
    check_reachable(target, table)
    return table


def check_reachable(target: LatencyTarget, table: LatencyTable) -> None:
    """Refuse a target that the dense model meets, or that was not measured.

    Raises:
        TableError: the table lacks a shape.
        TargetError: the dense model is as fast as asked.

    """
    shapes = [table.shape(x.shape) for x in target.shapes]
    if target.latency_ms is not None and target.latency_ms >= shapes[0].dense_ms:
        raise TargetError(
            f"The dense model takes {shapes[0].dense_ms:.2f} ms at {shapes[0].shape}, which is within the "
            f"{target.latency_ms:g} ms asked for: nothing needs pruning."
        )
