"""Default limits of fidelity: below them a run warns, whatever its gates are, and its exit code stays as it is.

A gate says what a release needs. These limits say from where on a figure is low by any standard, so that a run without
gates, or with gates about something else, does not look like a good one. Limits of measures belong to the task
(`kprune_export.evaluation.base.Evaluation.default_limit`), those of counts are here.
"""

from collections.abc import Iterator, Sequence

from exporters.rounding import beside, limit_text
from kprune_export.bundle.variant_report import VariantReport
from kprune_export.bundle.verdict import FidelityWarning
from kprune_export.evaluation import EVALUATIONS
from kprune_export.evaluation.fidelity import SKILLS, FidelityReport
from kprune_export.evaluation.retrieval_metrics import INDEX

LEAST_TEXTS = 30
"""From fewer different texts a share is known to no better than a tenth or so."""

LEAST_DOCUMENTS = 100
"""Among fewer, more than a tenth of a search's documents are found by chance."""


def fidelity_warnings(reports: Sequence[VariantReport]) -> tuple[FidelityWarning, ...]:
    """Return the warnings about all variants, in their order."""
    return tuple(
        warning
        for report in reports
        if report.fidelity is not None
        for warning in _of_report(str(report.variant), report.fidelity)
    )


def _of_report(variant: str, report: FidelityReport) -> Iterator[FidelityWarning]:
    for measure in report.measures:
        limit = EVALUATIONS[report.task].default_limit(measure.name)
        if limit is not None and not measure.value >= limit:
            value = beside(measure.value, limit)
            message = (
                f"{variant}: {measure.name.replace('_', ' ')} with the dense model is {value}, below the default limit "
                f"{limit_text(limit)}{_advice(measure.name)}."
            )
            yield FidelityWarning(
                variant=variant, measure=measure.name, value=measure.value, limit=limit, message=message
            )
    texts = report.texts if report.distinct_texts is None else report.distinct_texts
    count = f"{texts} text{'' if texts == 1 else 's'} that the tokenizer distinguishes"
    few = f"fidelity was measured on {count}, too few to say much"
    yield from _of_count(variant, "texts", texts, LEAST_TEXTS, few)
    if report.documents is not None:
        few = f"searches were among {report.documents} documents, of which many are found by chance"
        yield from _of_count(variant, "documents", report.documents, LEAST_DOCUMENTS, few)


def _of_count(variant: str, what: str, count: int, least: int, few: str) -> Iterator[FidelityWarning]:
    if count < least:
        message = f"{variant}: {few}: give at least {least} with --evaluation."
        yield FidelityWarning(variant=variant, measure=what, value=count, limit=least, message=message)


def _advice(name: str) -> str:
    """Return what a low figure means, where its name does not say it."""
    if name in SKILLS:
        return ": a constant answer would be nearly as close to the dense model"
    if name.startswith(INDEX):
        return ": pruned queries find other documents in the dense model's index"
    return ""
