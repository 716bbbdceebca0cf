"""Build a bundle from Python, check its figures, build again for another budget, and load the result.

    python examples/04-python/build.py MODEL TEXTS OUTPUT [SETTING=VALUE ...]

Settings have the names of the command line's flags, with ``_``: ``flops_reduction=0.5 shapes=1x128,8x128``.
"""

import sys

from kprune_export import ExporterError, Outcome, ProductError, Progress, PruningError, prune_and_build, validate


def show(progress: Progress) -> None:
    """Print a line when a stage starts, or is reused."""
    if progress.reused:
        print(f"{progress.title}: reused")
    elif progress.share == 0:
        print(f"{progress.title} ({progress.stage} of {progress.stages})")


def figures(outcome: Outcome) -> None:
    """Print the figures that decide whether to deploy a variant."""
    for report in outcome.reports:
        if report.fidelity and report.latency:
            headline = report.fidelity.headline
            print(f"{report.variant}: {headline.name} {headline.value:.4f}")
            for shape in report.latency.shapes:
                print(f"  {shape.shape}: {shape.pruned.p50_ms:.2f} ms, {shape.speedup:.2f} times as fast as dense")


def main(model: str, texts: str, output: str, *settings: str) -> None:
    """Build, print, and validate again."""
    given = dict(setting.split("=", 1) for setting in settings)
    try:
        outcome = prune_and_build(model, output, on_progress=show, calibration=texts, **given)
    except (PruningError, ExporterError, ProductError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    figures(outcome)
    print(f"Verdict: {outcome.manifest.verdict_in_words}")
    again = validate(output, f"{output}-validated", on_progress=show)
    print(f"Validated: {again.manifest.verdict_in_words}")


if __name__ == "__main__":
    main(*sys.argv[1:])
