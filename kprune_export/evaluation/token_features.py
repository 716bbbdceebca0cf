"""Token features: a vector for each token."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exporters.runners.base import Array
from kprune_export.errors import LabelError
from kprune_export.evaluation.base import VECTOR_LIMITS, Evaluation, Outputs, TaskLabels
from kprune_export.evaluation.fidelity import FidelityMeasure, mean_cosine, row_cosines, unit_rows
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.evaluation.retrieval_metrics import cosine_skill
from kprune_export.evaluation.retrieval_set import RetrievalSet
from kprune_export.evaluation.snippets import outputs_snippet
from pruning.calibration.batches import Batch
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.tasks import Task


class TokenFeatureEvaluation(Evaluation):
    """The mean cosine between the tokens' vectors, and its skill; there is no metric."""

    uses_labels = False
    limits = VECTOR_LIMITS
    pipeline_tag = "feature-extraction"

    def __init__(
        self,
        checkpoint: EncoderCheckpoint,
        examples: Sequence[Example],
        labels: TaskLabels | None,
        retrieval: RetrievalSet | None = None,
    ) -> None:
        super().__init__(checkpoint, examples, labels, retrieval)
        self._cosines: list[NDArray[np.float64]] = []
        self._total: NDArray[np.float64] | float = 0.0

    @classmethod
    def usage(cls, pooling: str | None) -> str:  # noqa: ARG003 - as declared
        """Return a call of the model."""
        return outputs_snippet(cls.example_texts, "last_hidden_state")

    @classmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:  # noqa: ARG003 - as declared
        """Refuse: tokens' vectors are scored by nothing."""
        raise LabelError("Tokens' features have no metric of their own, so labels have no use.")

    def reduce(self, batch: Batch, dense: Outputs, pruned: Outputs) -> dict[str, Array]:
        """Compare the tokens, (tokens,)."""
        counted = batch.counted.bool().numpy()
        (left,), (right,) = dense.values(), pruned.values()
        return {"cosines": row_cosines(left[counted], right[counted]), "total": unit_rows(left[counted]).sum(0)}

    def take(self, batch: Batch, reduced: Outputs) -> None:  # noqa: ARG002 - as declared
        """Keep the cosines and the sum of the dense model's directions."""
        self._cosines.append(reduced["cosines"])
        self._total = self._total + reduced["total"]

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Sum up the cosines."""
        cosines = np.concatenate(self._cosines)
        skill = cosine_skill(float(cosines.mean()), np.asarray(self._total), len(cosines))
        return mean_cosine(cosines, "a token's dense and pruned vector"), skill

    def metrics(self) -> tuple[TaskMetric, ...]:
        """Return nothing."""
        return ()
