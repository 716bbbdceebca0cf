"""The comparison as Markdown: a table for each figure, the best of each row in bold, and who is best said in words."""

from collections.abc import Callable, Iterator

from kprune_export.experiments.compare.results import Comparison, Figure, best_methods
from kprune_export.printable import printable


def tables(comparison: Comparison) -> list[tuple[str, str, bool]]:
    """Return the figures that are shown: their names as a row knows them, as titles, and whether higher is better."""
    shown = [("divergence", comparison.divergence_name, False)]
    if comparison.metric_name:
        dense = f" (dense model {comparison.dense_metric:.4f})" if comparison.dense_metric is not None else ""
        shown.append(("metric", f"{comparison.metric_name.replace('_', ' ')}{dense}", True))
    if comparison.fidelity_name:
        shown.append(("fidelity", comparison.fidelity_name.replace("_", " "), True))
    return [*shown, *((name, name.replace("_", " "), True) for name in comparison.retrieval_names)]


def markdown(comparison: Comparison) -> str:
    """Return compare.md."""
    return printable("\n".join(_lines(comparison)) + "\n")


def winners(comparison: Comparison, name: str, higher_is_better: bool) -> str:
    """Say in words which method is best at which rates."""
    places: dict[str, list[str]] = {}
    for rate in comparison.rates:
        best = best_methods(comparison, rate, name, higher_is_better)
        if best:
            places.setdefault(" and ".join(best), []).append(percent(rate))
    parts = (f"{method} at {', '.join(rates)}" for method, rates in places.items())
    return f"Best: {'; '.join(parts)}."


def percent(rate: float) -> str:
    """Write a rate as a percentage without needless digits."""
    return f"{100 * rate:.6g} %"


def figure_text(figure: Figure | None) -> str:
    """Write a figure with its standard error, or a dash."""
    if figure is None:
        return "–"
    return f"{figure.value:.4f}" if figure.error is None else f"{figure.value:.4f} ± {figure.error:.4f}"


def _lines(comparison: Comparison) -> Iterator[str]:
    seeds = len(comparison.seeds)
    texts = comparison.calibration[0]
    yield f"# {len(comparison.methods)} pruning methods compared"
    yield ""
    yield (
        f"Task: {comparison.task}. Calibrated on {texts.texts} texts, measured in torch on "
        f"{comparison.held_out[0].texts} others; FLOPs are counted at {comparison.sequence_length} tokens. "
        + (
            f"Figures are means over {seeds} seeds, ± their standard errors over the seeds."
            if seeds > 1
            else "Figures are of one seed, ± standard errors over the texts where they are known."
        )
        + " The best of each row is bold."
    )
    for name, title, higher in tables(comparison):
        yield ""
        yield f"## {title[0].upper()}{title[1:]}, {'higher' if higher else 'lower'} is better"
        yield ""

        def cell(method: str, rate: float, name: str = name, higher: bool = higher) -> str:
            text = figure_text(comparison.row(method, rate).figure(name))
            return f"**{text}**" if method in best_methods(comparison, rate, name, higher) else text

        yield from _table(comparison, cell)
        yield ""
        yield winners(comparison, name, higher)
    yield ""
    yield "## Seconds to prune"
    yield ""

    def seconds(method: str, rate: float) -> str:
        found = comparison.row(method, rate).seconds
        return "–" if found is None else f"{found:.1f}"

    yield from _table(comparison, seconds)
    yield ""
    yield "Meaningful only if nothing else ran; what a method shares between rates counts where it was done first."
    notes = [x.measured.metric.note for x in comparison.cells if x.measured and x.measured.metric]
    for caveat in dict.fromkeys((comparison.held_out[0].caveat, *notes)):
        if caveat:
            yield ""
            yield f"{caveat[0].upper()}{caveat[1:]}."
    refusals = dict.fromkeys(row.refused for row in comparison.rows if row.refused)
    for reason in refusals:
        who = [f"{row.method} at {percent(row.rate)}" for row in comparison.rows if row.refused == reason]
        yield ""
        yield f"Not run: {', '.join(who)}. {reason}"


def _table(comparison: Comparison, cell: Callable[[str, float], str]) -> Iterator[str]:
    yield f"| FLOPs removed | {' | '.join(comparison.methods)} |"
    yield f"|---|{'---|' * len(comparison.methods)}"
    for rate in comparison.rates:
        yield f"| {percent(rate)} | {' | '.join(cell(method, rate) for method in comparison.methods)} |"
