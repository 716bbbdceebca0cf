"""Running a comparison: a job for each seed, a cell for each method and rate, then the table and the plot."""

import hashlib
import json
from statistics import fmean

from kprune_export.experiments.compare.figure import draw
from kprune_export.experiments.compare.folder import PLOT, TABLE, ComparisonFolder
from kprune_export.experiments.compare.measure import prune_and_measure
from kprune_export.experiments.compare.request import CellRequest, ComparisonRequest
from kprune_export.experiments.compare.results import Cell, Comparison, make_row
from kprune_export.experiments.compare.table import markdown
from kprune_export.output_folder.inputs import OUTPUT, check_apart
from kprune_export.pipeline.job import Job, prepare_job
from kprune_export.pipeline.run import Reporter, SilentReporter
from pruning.checkpoint.identity import check_identity
from pruning.errors import BudgetError
from pruning.methods.base import check_budget
from pruning.settings import PruningSettings


def compare(request: ComparisonRequest, reporter: Reporter | None = None) -> Comparison:
    """Run every method at every rate with every seed, measure it on held-out texts, and write what was found.

    A method that cannot prune by as much as a rate asks is shown as such; any other failure ends the
    comparison. Cells that are finished stay in the output folder and are not run again by the same inputs.

    Raises:
        PruningError, ProductError: what was asked for cannot be done.

    """
    reporter = reporter or SilentReporter()
    check_apart([(OUTPUT, request.recipe.output)], request.recipe.inputs)
    ComparisonFolder.check(request.recipe.output)
    jobs = {
        seed: prepare_job(request.recipe_of(seed), prunes=True, exports=False, measures=True) for seed in request.seeds
    }
    first = jobs[request.seeds[0]].source
    for job in jobs.values():
        check_identity(job.source.identity, first.identity, first.folder.path)
    wanted = list(request.cells())
    for cell in wanted:  # what no method could keep to is bad input
        check_budget(jobs[cell.seed].source.open().shape, _settings(request, cell))
    cells: list[Cell] = []
    with ComparisonFolder.open(request.recipe.output) as folder:
        for number, cell in enumerate(wanted, start=1):
            title = f"{cell.method} at {cell.rate:.1%}, seed {cell.seed}"
            job, settings = jobs[cell.seed], _settings(request, cell)
            key = _key(job, settings)
            found = folder.finished(cell, key)
            if found is None:
                found = Cell(method=cell.method, rate=cell.rate, seed=cell.seed, key=key)
                with reporter.stage(number, len(wanted), title) as progress:
                    try:
                        measured = prune_and_measure(job, settings, folder.journal(cell), progress)
                        found = found.model_copy(update={"measured": measured})
                    except BudgetError as error:
                        found = found.model_copy(update={"refused": str(error)})
                folder.keep(cell, found)
            else:
                reporter.skipped(number, len(wanted), title)
            cells.append(found)
        comparison = _summed_up(request, jobs, cells)
        return folder.publish({PLOT: draw(comparison), TABLE: markdown(comparison)}, comparison)


def _settings(request: ComparisonRequest, cell: CellRequest) -> PruningSettings:
    return PruningSettings(
        flops_reduction=cell.rate,
        sequence_length=request.recipe.sequence_length,
        method=cell.method,
        seed=cell.seed,
    )


def _key(job: Job, settings: PruningSettings) -> str:
    """Return the hash of everything that decides a cell."""
    parts = {
        "source": job.source_record.model_dump(exclude={"model"}),
        "calibration": job.calibration_record.sha256,
        "held_out": job.held_out_record.sha256,
        **job.compared_by,
        "figures": 2,  # cells of earlier versions lack some
        "settings": settings.model_dump(),
        "placement": repr(job.placement),
        "versions": job.versions,
        "threads": job.threads,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _summed_up(request: ComparisonRequest, jobs: dict[int, Job], cells: list[Cell]) -> Comparison:
    job = jobs[request.seeds[0]]
    measured = [cell.measured for cell in cells if cell.measured]
    metrics = [x.metric for x in measured if x.metric]
    return Comparison(
        task=job.source.task.name,
        source=job.source_record,
        sequence_length=request.recipe.sequence_length,
        methods=request.methods,
        rates=request.rates,
        seeds=request.seeds,
        calibration=tuple(jobs[seed].calibration_record for seed in request.seeds),
        held_out=tuple(jobs[seed].held_out_record for seed in request.seeds),
        divergence_name=job.source.task.divergence_name,
        fidelity_name=measured[0].measures[0].name if measured else None,
        metric_name=metrics[0].name if metrics else None,
        retrieval_names=tuple(measured[0].retrieval) if measured else (),
        dense_metric=fmean(x.dense for x in metrics) if metrics else None,
        rows=tuple(
            make_row(method, rate, [x for x in cells if (x.method, x.rate) == (method, rate)])
            for method in request.methods
            for rate in request.rates
        ),
        cells=tuple(cells),
    )
