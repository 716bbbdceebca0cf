"""Comparing two bundles."""

import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from exporters.timing.latency import LatencyReport
from kprune_export.bundle.manifest import Manifest, TextsRecord
from kprune_export.diff.figures import measured
from kprune_export.diff.read import BundleContent, read_bundle
from kprune_export.diff.results import (
    BundleDiff,
    Effect,
    FigureChange,
    GateChange,
    LayerChange,
    TextChange,
    VariantChange,
)
from pruning.plan import LayerPlan, PruningPlan

Interval = tuple[float, float]


def diff_bundles(before: Path, after: Path) -> BundleDiff:
    """Compare two bundles, of whatever models, tasks and commands.

    Raises:
        BundleError: one of them has no manifest, or a report of another version.
        VerificationError: one of them has changed since it was made.

    """
    return compare_contents(read_bundle(before), read_bundle(after))


def compare_contents(before: BundleContent, after: BundleContent) -> BundleDiff:
    """Compare what was read of two bundles."""
    old, new = before.manifest, after.manifest
    reduction = (old.flops_reduction, new.flops_reduction)
    return BundleDiff(
        before=str(before.path),
        after=str(after.path),
        notes=tuple(_notes(before, after)),
        warnings=tuple(f"{x.path}: {warning.message}" for x in (before, after) for warning in x.manifest.warnings),
        verdict=TextChange(name="verdict", before=old.verdict_in_words, after=new.verdict_in_words),
        gates=_gates(old, new),
        flops_reduction=None if reduction == (None, None) else figure_change("FLOPs removed", *reduction),
        same_plan=None if None in (old.plan_sha256, new.plan_sha256) else _same_units(before, after),
        layers=_layers(before.plan, after.plan) if before.plan and after.plan else (),
        inputs=_texts(_inputs(old), _inputs(new)),
        settings=_texts(_in_words(old.recipe), _in_words(new.recipe)),
        versions=_texts(old.versions, new.versions),
        variants=tuple(
            VariantChange(variant=name, figures=tuple(_figures(name, before, after)))
            for name in dict.fromkeys((*old.variants, *new.variants))
        ),
    )


def figure_change(
    name: str,
    before: float | None,
    after: float | None,
    higher_is_better: bool | None = None,
    before_interval: Interval | None = None,
    after_interval: Interval | None = None,
) -> FigureChange:
    """Compare a figure; with both intervals, it counts as changed only where they do not overlap.

    Args:
        name: what it is.
        before: None where the first bundle lacks it.
        after: None where the second lacks it.
        higher_is_better: None where neither direction is better.
        before_interval: the ends of its interval, where there is one.
        after_interval: the same.

    """
    return FigureChange(
        name=name,
        before=before,
        after=after,
        before_interval=before_interval,
        after_interval=after_interval,
        effect=_effect(before, after, higher_is_better, before_interval, after_interval),
    )


def _effect(
    before: float | None, after: float | None, higher: bool | None, old: Interval | None, new: Interval | None
) -> Effect:
    if before is None:
        return "only after"
    if after is None:
        return "only before"
    if before == after:
        return "equal"
    if old and new and old[0] <= new[1] and new[0] <= old[1]:
        return "within the intervals"
    if higher is None:
        return "changed"
    return "better" if (after > before) == higher else "worse"


def _notes(before: BundleContent, after: BundleContent) -> Iterator[str]:
    """Say what keeps figures of the two from being compared as if only the model had changed."""
    old, new = before.manifest, after.manifest
    if old.source.weights_sha256 != new.source.weights_sha256:
        yield (
            f"They were made from different models ({old.source.model} and {new.source.model}): layers, fidelity and "
            "speedups are each against another dense model."
        )
    if (old.task, old.labels) != (new.task, new.labels):
        yield f"Their tasks differ: {_task(old)} and {_task(new)}."
    if old.command != new.command:
        yield f"They were made by different commands, {old.command} and {new.command}: one lacks what the other has."
    if old.held_out and new.held_out and old.held_out.sha256 != new.held_out.sha256:
        yield "Fidelity and metrics were measured on different texts."
    if before.latency and after.latency and _machines(before.latency) != _machines(after.latency):
        yield "Latency was measured on different machines: compare the speedups, not the times."

    for content in (before, after):
        reasons = [f"at {x} {why}" for report in content.latency.values() for x, why in report.noise_reasons.items()]
        if reasons:
            yield (
                f"The machine was noisy when {content.path} was timed, so that its times cannot be relied on: "
                f"{reasons[0]}."
            )


def _task(manifest: Manifest) -> str:
    return f"{manifest.task} ({', '.join(manifest.labels)})" if manifest.labels else manifest.task


def _machines(latency: Mapping[str, LatencyReport]) -> set[str]:
    """Return the machines that were timed on, without their load, and with the threads used."""
    changing = {"load_1min", "versions"}
    return {f"{x.subject.threads} {x.subject.machine.model_dump_json(exclude=changing)}" for x in latency.values()}


def _gates(old: Manifest, new: Manifest) -> tuple[GateChange, ...]:
    before, after = ({gate.name: gate for gate in manifest.gates} for manifest in (old, new))
    return tuple(
        GateChange(name=name, before=before.get(name), after=after.get(name))
        for name in dict.fromkeys((*before, *after))
    )


def _same_units(before: BundleContent, after: BundleContent) -> bool:
    if before.plan and after.plan:  # the plan's hash is also of its method and its texts
        return before.plan.layers == after.plan.layers
    return before.manifest.plan_sha256 == after.manifest.plan_sha256


def _layers(before: PruningPlan, after: PruningPlan) -> tuple[LayerChange, ...]:
    pairs = enumerate(zip_longest(before.layers, after.layers))
    return tuple(_layer(number, old, new) for number, (old, new) in pairs if old != new)


def _layer(number: int, old: LayerPlan | None, new: LayerPlan | None) -> LayerChange:
    nothing = LayerPlan(heads=(), neurons=())
    return LayerChange(
        layer=number,
        heads_before=None if old is None else len(old.heads),
        heads_after=None if new is None else len(new.heads),
        heads_shared=len(set((old or nothing).heads) & set((new or nothing).heads)),
        neurons_before=None if old is None else len(old.neurons),
        neurons_after=None if new is None else len(new.neurons),
        neurons_shared=len(set((old or nothing).neurons) & set((new or nothing).neurons)),
    )


def _inputs(manifest: Manifest) -> dict[str, str]:
    source = manifest.source
    found = {
        "weights": source.weights_sha256[:12],
        "config": source.config_sha256[:12],
        "tokenizer": source.tokenizer_sha256[:12],
    }
    texts: dict[str, TextsRecord | None] = {"calibration": manifest.calibration, "held-out": manifest.held_out}
    return found | {f"{name} texts": f"{x.texts}, {x.sha256[:12]}" for name, x in texts.items() if x}


def _in_words(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as text; those that are not set are left out."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in recipe.items()
        if value is not None
    }


def _texts(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[TextChange, ...]:
    return tuple(
        TextChange(name=name, before=before.get(name), after=after.get(name))
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    )


def _figures(variant: str, before: BundleContent, after: BundleContent) -> Iterator[FigureChange]:
    old, new = ({x.name: x for x in measured(variant, content)} for content in (before, after))
    for name in dict.fromkeys((*old, *new)):
        first, second = old.get(name), new.get(name)
        either = second or first
        yield figure_change(
            name,
            first.value if first else None,
            second.value if second else None,
            either.higher_is_better if either else None,
            first.interval if first else None,
            second.interval if second else None,
        )
