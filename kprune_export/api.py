"""Python interface: the same jobs as the command line's, with typed results and exceptions.

Settings are keyword arguments with the names of the recipe's keys, which are the command line's flags with ``_``
(`kprune_export.recipe`); a wrong name or value raises `RecipeError` before anything is written. Nothing is printed:
progress goes to ``on_progress``, warnings to the logger ``kprune_export``.

In the process of another program the timed models have threads that do not spin, which leaves the processors to that
program; ``isolate=True`` times each model in a process of its own, with the threads that a server has.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kprune_export.recipe.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kprune_export.experiments.sweep.sweep_record import SweepRecord
    from kprune_export.pipeline.run import Outcome

StrPath = str | PathLike[str]


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        stage: the number of the stage, from 1.
        stages: how many there are.
        title: what the stage does.
        share: the share of the stage that is done, from 0 to 1.
        reused: whether the stage is not run because its earlier outputs are valid.

    """

    stage: int
    stages: int
    title: str
    share: float
    reused: bool = False


OnProgress = Callable[[Progress], object]


def prune_and_build(
    model: StrPath, output: StrPath, *, on_progress: OnProgress | None = None, **settings: Any
) -> "Outcome":
    """Prune a checkpoint, export it, validate it, and evaluate the gates; as ``kprune-export prune-and-build``.

    A run that was killed resumes when it is called again with the same arguments. A gate that failed is no exception:
    it is in ``manifest.verdict`` and ``manifest.gates`` of what is returned.

    Args:
        model: a checkpoint folder, or a model id of the Hugging Face hub.
        output: the folder of the bundle, empty or from an earlier run.
        on_progress: called when a stage starts, advances and ends.
        **settings: settings of the recipe, such as ``calibration="texts.txt"``, ``flops_reduction=0.5``,
            ``precision=["fp32", "int8"]``, ``min_speedup=1.5``.

    Returns:
        The manifest, the pruning plan, and reports on parity, fidelity and latency of each variant.

    Raises:
        PruningError, ExporterError, ProductError: what was asked for cannot be done.

    """
    from kprune_export.pipeline import run

    return run.prune_and_build(_recipe(model, output, settings), _reporter(on_progress))


def prune(model: StrPath, output: StrPath, *, on_progress: OnProgress | None = None, **settings: Any) -> "Outcome":
    """Prune a checkpoint and write its plan and the pruned checkpoint only; as ``kprune-export prune``.

    Arguments and exceptions are those of `prune_and_build`.
    """
    from kprune_export.pipeline import run

    return run.prune(_recipe(model, output, settings), _reporter(on_progress))


def export(model: StrPath, output: StrPath, *, on_progress: OnProgress | None = None, **settings: Any) -> "Outcome":
    """Export a checkpoint as it is, dense or pruned, and check parity; as ``kprune-export export``.

    Arguments and exceptions are those of `prune_and_build`.
    """
    from kprune_export.pipeline import run

    return run.export(_recipe(model, output, settings), _reporter(on_progress))


def validate(
    bundle: StrPath,
    output: StrPath,
    *,
    dense: StrPath | None = None,
    on_progress: OnProgress | None = None,
    **settings: Any,
) -> "Outcome":
    """Validate a bundle on this machine: parity, fidelity, latency and gates; as ``kprune-export validate``.

    Settings that are not given are those that the bundle was made with.

    Args:
        bundle: a bundle of `prune_and_build`.
        output: the folder of the new reports.
        dense: the dense checkpoint that it was made from; where it was when this machine made the bundle, unless given.
        on_progress: called when a stage starts, advances and ends.
        **settings: settings of the recipe.

    Raises:
        PruningError, ExporterError, ProductError: what was asked for cannot be done; `VerificationError` where a file
            of the bundle is not what its manifest lists.

    """
    from kprune_export.bundle.inputs import repeatable_settings
    from kprune_export.pipeline import run

    given = {**settings, "output": output} | ({"model": dense} if dense is not None else {})
    recipe = Recipe.build(None, _as_typed(given), defaults=repeatable_settings(Path(bundle)))
    return run.validate(Path(bundle), recipe, _reporter(on_progress))


def sweep(
    model: StrPath,
    output: StrPath,
    *,
    speedups: "Sequence[float]" = (1.5, 2.0, 3.0),
    parallel: int = 1,
    on_progress: OnProgress | None = None,
    **settings: Any,
) -> "SweepRecord":
    """Build a bundle for each of several speedups and precisions; as ``kprune-export sweep``.

    Args:
        model: a checkpoint folder, or a model id of the Hugging Face hub.
        output: the folder of the family of bundles.
        speedups: over the dense model in the same runtime and precision, above 1.
        parallel: how many bundles are made at a time; timing runs exclusively.
        on_progress: called when a stage starts, advances and ends.
        **settings: settings of the recipe, without those that set a budget.

    Returns:
        A record for each bundle: its latency, fidelity, size, and whether it is Pareto-optimal.

    Raises:
        PruningError, ExporterError, ProductError: what was asked for cannot be done, for any of the bundles.

    """
    from kprune_export.experiments.sweep import run
    from kprune_export.experiments.sweep.launch import LocalTrials
    from kprune_export.experiments.sweep.request import SweepRequest

    given = _as_typed({**settings, "model": model, "output": output})
    request = SweepRequest.build(None, given, ",".join(map(str, speedups)))
    return run.sweep(request, LocalTrials(parallel), _reporter(on_progress))


def _recipe(model: StrPath, output: StrPath, settings: dict[str, Any]) -> Recipe:
    return Recipe.build(None, _as_typed({**settings, "model": model, "output": output}))


def _as_typed(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with paths as text, as recipe files have them."""
    return {name: fspath(value) if isinstance(value, PathLike) else value for name, value in settings.items()}


def _reporter(on_progress: OnProgress | None) -> "_Reporter | None":
    return None if on_progress is None else _Reporter(on_progress)


class _Reporter:
    """Passes the progress of a run to a callback."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._call = on_progress

    @contextlib.contextmanager
    def stage(self, number: int, total: int, title: str) -> Iterator[Callable[[float], None]]:
        """Report the start of a stage, its advance, and its end."""

        def advance(share: float) -> None:
            self._call(Progress(number, total, title, share))

        advance(0.0)
        yield advance
        advance(1.0)

    def skipped(self, number: int, total: int, title: str) -> None:
        """Report a stage whose earlier outputs are valid."""
        self._call(Progress(number, total, title, 1.0, reused=True))

    def planned(self, expected: object) -> None:
        """Do nothing: durations are not part of `Progress`."""
