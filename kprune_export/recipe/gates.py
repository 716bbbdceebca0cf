"""Gates: limits that a release has to keep, as settings."""

from typing import Annotated, ClassVar

from pydantic import Field

from kprune_export.recipe.settings import Section, Setting, Use, uses

_MEASUREMENT = uses(Use.MEASUREMENT)
RETRIEVAL_GATES = {
    "min_overlap": "top_10_overlap",
    "min_ndcg": "ndcg_at_10",
    "min_mrr": "mrr_at_10",
    "min_recall": "recall_at_10",
    "min_index_overlap": "index_top_10_overlap",
    "min_index_ndcg": "index_ndcg_at_10",
    "min_index_mrr": "index_mrr_at_10",
    "min_index_recall": "index_recall_at_10",
}
"""The gates about what an embedder finds, and the figure that each is about."""


class GatesSection(Section):
    """The gates; those that are None are not set."""

    panel: ClassVar[str] = "Gates (exit code 3 if one fails)"

    min_speedup: Annotated[
        float | None, Field(gt=0), Setting("Smallest speedup over the dense model, at every shape.", _MEASUREMENT)
    ] = None
    min_agreement: Annotated[
        float | None,
        Setting(
            "Smallest agreement with the dense model (embedders: mean cosine; regression: R²; rerankers: rank "
            "agreement).",
            _MEASUREMENT,
        ),
    ] = None
    min_metric: Annotated[
        float | None, Setting("Smallest value of the task's metric; needs labelled texts.", _MEASUREMENT)
    ] = None
    max_size_mib: Annotated[
        float | None, Field(gt=0), Setting("Largest size of the ONNX file in MiB.", _MEASUREMENT)
    ] = None
    min_overlap: Annotated[
        float | None,
        Setting(
            "Embedders: smallest share of the 10 nearest documents that stay once all are embedded again.", _MEASUREMENT
        ),
    ] = None
    min_ndcg: Annotated[
        float | None,
        Setting(
            "Embedders: smallest nDCG@10 with the documents embedded again; needs a retrieval data set.", _MEASUREMENT
        ),
    ] = None
    min_mrr: Annotated[float | None, Setting("The same for MRR@10.", _MEASUREMENT)] = None
    min_recall: Annotated[float | None, Setting("The same for recall@10.", _MEASUREMENT)] = None
    min_index_overlap: Annotated[
        float | None,
        Setting(
            "Embedders: smallest share of the 10 nearest documents that stay where pruned queries search the dense "
            "model's stored vectors, so that the index can stay.",
            _MEASUREMENT,
        ),
    ] = None
    min_index_ndcg: Annotated[
        float | None,
        Setting(
            "Embedders: smallest nDCG@10 of pruned queries against the dense model's stored vectors; needs a retrieval "
            "data set.",
            _MEASUREMENT,
        ),
    ] = None
    min_index_mrr: Annotated[float | None, Setting("The same for MRR@10.", _MEASUREMENT)] = None
    min_index_recall: Annotated[float | None, Setting("The same for recall@10.", _MEASUREMENT)] = None


GATE_NAMES = tuple(GatesSection.model_fields)
"""The settings that are gates."""
