"""The texts of a recovery: some decide which weights are kept, the others are trained on, in batches of like length."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pruning.calibration.batches import Batch
from pruning.calibration.examples import Example, examples_sha256
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.recovery.settings import RecoverySettings

_LARGEST_VALIDATION = 0.1


@dataclass(frozen=True)
class RecoveryTexts:
    """Texts to train on, and texts to choose weights by.

    Attributes:
        training: the former.
        validation: the latter.

    """

    training: tuple[Example, ...]
    validation: tuple[Example, ...]

    @property
    def sha256(self) -> str:
        """One hash over both."""
        return examples_sha256([*self.training, *self.validation])


def split_texts(examples: Sequence[Example], settings: RecoverySettings) -> RecoveryTexts:
    """Split texts at random; each different one is taken once.

    Args:
        examples: the texts, in the form that the task reads them in.
        settings: how many are for validation, and the seed.

    """
    different = list({(x.text, x.pair): x for x in examples}.values())
    random.Random(settings.seed).shuffle(different)  # noqa: S311 - the seed decides
    held = min(settings.validation_texts, int(_LARGEST_VALIDATION * len(different)))
    return RecoveryTexts(tuple(different[held:]), tuple(different[:held]))


def training_batches(
    checkpoint: EncoderCheckpoint, texts: RecoveryTexts, settings: RecoverySettings
) -> Iterator[Batch]:
    """Yield batches until the budget is spent or every text was read ``epochs`` times.

    A batch holds texts of like length, so that little is padding. Batches come in random order, another in each pass;
    a masked language model's tokens are masked again in each pass.

    Args:
        checkpoint: tokenizes them.
        texts: the texts.
        settings: the budget, the size of batches, and the seed.

    """
    spent = 0
    for epoch in range(settings.epochs):
        batches = list(checkpoint.batches(texts.training, settings.seed + epoch, settings.batch_size))
        random.Random(f"{settings.seed}/{epoch}").shuffle(batches)  # noqa: S311 - as above
        for batch in batches:
            if spent >= settings.tokens:
                return
            spent += batch.tokens
            yield batch
