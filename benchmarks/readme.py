"""The table and the plot at the top of the README: dense and pruned, fp32 and int8, on a labelled data set.

    python benchmarks/readme.py OUT --model MODEL --calibration TRAIN --evaluation DEV [--write]

Builds one bundle (in OUT; a second run reuses it), and takes the figures from its reports. ``--write`` puts the table
between the marks in README.md and the plot into docs/readme.svg. Run it on a machine that does nothing else: a run
whose times are noisy is refused.
"""

import argparse
import re
import sys
from pathlib import Path

from kprune_export import Outcome, prune_and_build
from kprune_export.bundle.dense_summary import dense_summaries
from kprune_export.bundle.headline import shown
from kprune_export.plots import drawing, svg_of

ROOT = Path(__file__).parents[1]
MARKS = ("<!-- figures: python benchmarks/readme.py -->", "<!-- /figures -->")
SHAPE = "8x128"
Row = tuple[str, float, float, float, bool]
"""Name, median ms, size in MiB, metric, whether it is pruned."""


def rows(outcome: Outcome) -> list[Row]:
    """Return the four rows: the dense model's variants, then the pruned ones."""
    found = []
    for dense in dense_summaries(outcome.reports, outcome.dense_reports):
        (time,) = (x.p50_ms for x in dense.latency if x.shape == SHAPE)
        assert dense.onnx_bytes is not None
        precision = dense.variant.rpartition("-")[2]
        found.append((f"dense {precision}", time, dense.onnx_bytes / 2**20, dense.metrics[0].value, False))
    for report in outcome.reports:
        assert report.latency is not None
        assert report.fidelity is not None
        assert report.fidelity.metric is not None
        (time,) = (x.pruned.p50_ms for x in report.latency.shapes if x.shape == SHAPE)
        size = report.graph.file.size_bytes / 2**20
        found.append((f"pruned {report.variant.precision}", time, size, report.fidelity.metric.pruned, True))
    return found


def table(found: list[Row], metric: str, subject: str) -> str:
    """Return the table as Markdown, with its caption."""
    dense_ms = found[0][1]
    lines = [f"| | ms at {SHAPE} | times as fast | MiB | {metric} |", "|---|---|---|---|---|"]
    for name, time, size, value, _ in found:
        lines.append(f"| {name} | {time:.1f} | {dense_ms / time:.2f} | {size:.1f} | {shown(metric, value)} |")
    return "\n".join([*lines, "", subject])


@drawing()
def plot(found: list[Row], metric: str) -> str:
    """Return the plot as SVG on white, which is readable on dark pages too."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axis = figure.subplots()
    for name, time, _, value, pruned in found:
        axis.scatter([time], [100 * value], s=70, color="#2f6fde" if pruned else "#7c8594", zorder=3)
        left = time > max(x[1] for x in found) / 2
        axis.annotate(
            name, (time, 100 * value), xytext=(-9 if left else 9, 0), textcoords="offset points",
            ha="right" if left else "left", va="center",
        )  # fmt: skip
    axis.set_xlim(0, 1.05 * max(x[1] for x in found))
    axis.margins(y=0.25)
    axis.grid(color="#e6e9ef", zorder=0)
    axis.set_xlabel(f"median ms for a call at {SHAPE}")
    axis.set_ylabel(f"{metric}, %")
    return svg_of(figure)


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--evaluation", required=True)
    parser.add_argument("--name", required=True, help="the model and the data set, in words")
    parser.add_argument("--flops-reduction", type=float, default=0.5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    outcome = prune_and_build(
        options.model,
        options.output,
        calibration=options.calibration,
        evaluation=options.evaluation,
        flops_reduction=options.flops_reduction,
        precision=["fp32", "int8"],
        isolate=True,
        on_progress=lambda x: print(x.title, file=sys.stderr) if x.share == 0 else None,
    )
    latency, fidelity = outcome.reports[0].latency, outcome.reports[0].fidelity
    assert latency is not None
    assert fidelity is not None
    assert fidelity.metric is not None
    if outcome.noise:
        sys.exit(f"The times cannot be relied on: {outcome.noise[0]}")
    found = rows(outcome)
    machine = latency.subject.machine
    sets = ", ".join(machine.instruction_sets)
    subject = (
        f"{options.name}, {100 * options.flops_reduction:.0f} % of FLOPs removed; {fidelity.metric.examples} labels; "
        f'{latency.subject.threads} threads of {machine.cpu_model} ({sets}), ONNX Runtime. "Dense int8" is what int8 '
        'alone gives, "pruned fp32" what pruning alone gives.'
    )
    text = table(found, fidelity.metric.name, subject)
    print(text)
    if options.write:
        page = ROOT / "README.md"
        before, after = MARKS
        content = page.read_text(encoding="utf-8")
        page.write_text(
            re.sub(
                f"{re.escape(before)}.*?{re.escape(after)}",
                lambda _: f"{before}\n{text}\n{after}",
                content,
                flags=re.DOTALL,
            ),
            encoding="utf-8",
        )
        (ROOT / "docs" / "readme.svg").write_text(plot(found, fidelity.metric.name), encoding="utf-8")


if __name__ == "__main__":
    main()
