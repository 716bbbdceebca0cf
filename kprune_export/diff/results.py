"""Results of a comparison of two bundles."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from kprune_export.bundle.verdict import GateResult

Effect = Literal["better", "worse", "equal", "within the intervals", "changed", "only before", "only after"]
"""What a change of a figure means: ``changed`` is neither good nor bad; the two last: one bundle lacks the figure."""


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextChange(_Result):
    """A setting, a version or an input that differs; None where one of the bundles has none."""

    name: str
    before: str | None
    after: str | None


class FigureChange(_Result):
    """A figure in both bundles, equal or not.

    Attributes:
        before: its value in the first bundle; None where that lacks it.
        after: its value in the second.
        before_interval: the ends of its 95 % interval, where it was measured with one.
        after_interval: the same.
        effect: what the change means. Where there are intervals, a change counts only if they do not overlap.

    """

    name: str
    before: float | None
    after: float | None
    before_interval: tuple[float, float] | None = None
    after_interval: tuple[float, float] | None = None
    effect: Effect


class LayerChange(_Result):
    """A layer whose kept units differ; counts are None where a plan has no such layer.

    Attributes:
        layer: its number, from 0.
        heads_shared: how many heads both plans keep.
        neurons_shared: how many neurons both plans keep.

    """

    layer: int
    heads_before: int | None
    heads_after: int | None
    heads_shared: int
    neurons_before: int | None
    neurons_after: int | None
    neurons_shared: int


class VariantChange(_Result):
    """One variant's figures; all are listed, those that are equal too."""

    variant: str
    figures: tuple[FigureChange, ...]


class GateChange(_Result):
    """A gate of either bundle; None where the bundle had no such gate."""

    name: str
    before: GateResult | None
    after: GateResult | None


class BundleDiff(_Result):
    """All that differs between two bundles.

    Attributes:
        before: the first bundle.
        after: the second.
        notes: what makes figures of the two hard to compare, a sentence each.
        warnings: those of both, with the bundle that each is of.
        verdict: the verdicts in words, equal or not.
        gates: all gates of both.
        flops_reduction: the share of FLOPs that is removed; None where neither was pruned.
        same_plan: whether both keep the same units; None where one of them has no plan.
        layers: the layers whose kept units differ, where both bundles hold a plan.
        inputs: hashes of the model and of the texts that differ, shortened.
        settings: settings of the recipe that differ.
        versions: versions of packages that differ.
        variants: figures of each variant.

    """

    before: str
    after: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    verdict: TextChange
    gates: tuple[GateChange, ...]
    flops_reduction: FigureChange | None
    same_plan: bool | None
    layers: tuple[LayerChange, ...]
    inputs: tuple[TextChange, ...]
    settings: tuple[TextChange, ...]
    versions: tuple[TextChange, ...]
    variants: tuple[VariantChange, ...]
