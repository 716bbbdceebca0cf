"""A comparison of two bundles as tables of text, and as the Markdown of a pull request."""

from collections.abc import Iterator

from kprune_export.bundle.verdict import GateResult
from kprune_export.diff.results import BundleDiff, FigureChange, LayerChange, TextChange, VariantChange
from kprune_export.tables import Section, markdown_table, markdown_text

NONE = "–"
_SIDES = ("before", "after")


def sections(diff: BundleDiff) -> tuple[Section, ...]:
    """Return the tables that have something to say, the verdict first."""
    return tuple(section for section in _all(diff) if section.rows)


def markdown(diff: BundleDiff) -> str:
    """Return the comparison as Markdown."""
    title = f"## {markdown_text(diff.before)} → {markdown_text(diff.after)}"
    notes = [f"Note: {markdown_text(note)}" for note in diff.notes]
    notes += [f"Warning: {markdown_text(warning)}" for warning in diff.warnings]
    return "\n\n".join((title, *notes, *map(markdown_table, sections(diff)))) + "\n"


def plan_in_words(diff: BundleDiff) -> str:
    """Say whether both keep the same units."""
    if diff.same_plan is None:
        return "not both are pruned"
    return "the same units are kept" if diff.same_plan else "other units are kept"


def _all(diff: BundleDiff) -> Iterator[Section]:
    verdict = (diff.verdict.name, diff.verdict.before or NONE, diff.verdict.after or NONE)
    gates = ((gate.name, _gate(gate.before), _gate(gate.after)) for gate in diff.gates)
    yield Section("Verdict and gates", ("", *_SIDES), (verdict, *gates))
    if diff.flops_reduction:
        reduction = diff.flops_reduction
        row = (reduction.name, _percent(reduction.before), _percent(reduction.after), plan_in_words(diff))
        yield Section("Plan", ("", *_SIDES, ""), (row,))
    yield Section(
        "Layers that differ",
        ("layer", "heads before", "after", "in both", "neurons before", "after", "in both"),
        tuple(_layer(x) for x in diff.layers),
    )
    for variant in diff.variants:
        yield _variant(variant)
    for title, changes in (("Inputs", diff.inputs), ("Settings", diff.settings), ("Versions", diff.versions)):
        yield Section(f"{title} that differ", ("", *_SIDES), tuple(_text(change) for change in changes))


def _gate(gate: GateResult | None) -> str:
    if gate is None:
        return NONE
    word = "inconclusive" if gate.inconclusive else "passed" if gate.passed else "failed"
    return f"{word}: {gate.measured}, asked {gate.asked}"


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{value:.2%}"


def _layer(change: LayerChange) -> tuple[str, ...]:
    def count(value: int | None) -> str:
        return NONE if value is None else str(value)

    heads = (count(change.heads_before), count(change.heads_after), str(change.heads_shared))
    neurons = (count(change.neurons_before), count(change.neurons_after), str(change.neurons_shared))
    return (str(change.layer), *heads, *neurons)


def _text(change: TextChange) -> tuple[str, ...]:
    return change.name, change.before or NONE, change.after or NONE


def _variant(change: VariantChange) -> Section:
    rows = tuple(
        (x.name, _value(x.before, x.before_interval), _value(x.after, x.after_interval), _difference(x), x.effect)
        for x in change.figures
    )
    return Section(change.variant, ("", *_SIDES, "difference", ""), rows)


def _value(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return NONE
    return _digits(value) + (f" ({_digits(interval[0])} to {_digits(interval[1])})" if interval else "")


def _digits(value: float) -> str:
    """Write a number with four decimals, or with an exponent where these would show little of it."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2e}"


def _difference(change: FigureChange) -> str:
    if change.before is None or change.after is None or change.before == change.after:
        return ""
    difference = change.after - change.before
    return ("+" if difference > 0 else "") + _digits(difference)
