"""Recovery of a pruned model: AdamW on the distance from the dense model, the best weights kept.

The encoder's own weights are trained; embedding tables and the head stay as they are. Nothing is drawn at random but
the order of the texts, by the seed, so that equal inputs give equal bytes; dropout is off.
"""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruning.calibration.batches import Batch
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.families.base import EncoderAdapter
from pruning.methods.journal import Journal, fingerprint
from pruning.methods.placement import CPU, Placement
from pruning.recovery.loss import activations, hidden_loss, output_loss
from pruning.recovery.settings import CurvePoint, RecoveryRecord, RecoverySettings
from pruning.recovery.texts import RecoveryTexts, split_texts, training_batches

logger = logging.getLogger(__name__)

Progress = Callable[[float], None]
WARMUP_SHARE = 0.03
"""The share of the steps in which the learning rate rises to its highest."""
LARGEST_GRADIENT = 1.0
"""The norm that gradients are cut to."""
_STATE = "recovery"


def recover(
    student: EncoderCheckpoint,
    teacher: EncoderCheckpoint,
    examples: Sequence[Example],
    settings: RecoverySettings,
    placement: Placement = CPU,
    journal_folder: Path | None = None,
    progress: Progress = lambda _: None,
) -> RecoveryRecord:
    """Train a pruned model's weights in place, and return what was done; they are never worse than before.

    The divergence on texts that are not trained on is measured as training goes on, and the weights that were best
    there are kept, those of the pruned model if none is better.

    Args:
        student: a pruned checkpoint; its model is on the CPU before and after.
        teacher: the dense checkpoint that it came from.
        examples: unlabelled texts, none of which fidelity is measured on.
        settings: the budget and how it is spent.
        placement: where and in what precision both models run.
        journal_folder: where the state of training is kept, so that a killed run can resume with the same result.
        progress: called with the share that is done.

    Raises:
        CalibrationError: the task cannot use the texts.

    """
    texts = split_texts(student.task.texts(examples), settings)
    if len(texts.training) < settings.batch_size or not texts.validation:
        return RecoveryRecord(
            reason=f"there are {len(texts.training) + len(texts.validation)} different texts to recover with, which "
            "are too few to train on"
        )
    journal = None
    if journal_folder is not None:
        identity = teacher.identity.model_dump()
        decided_by = fingerprint(
            recovery=settings.model_dump(), source=identity, texts=texts.sha256, placement=repr(placement),
            pruned=_weights_sum(student.model),
        )  # fmt: skip
        journal = Journal(journal_folder, decided_by)
    device = placement.device
    for model in (student.model, teacher.model):
        model.to(device).eval()
    try:
        run = _Recovery(student, teacher, texts, settings, placement, journal)
        return run.train(progress)
    finally:
        for model in (student.model, teacher.model):
            model.to("cpu").requires_grad_(False)


class _Recovery:
    def __init__(
        self,
        student: EncoderCheckpoint,
        teacher: EncoderCheckpoint,
        texts: RecoveryTexts,
        settings: RecoverySettings,
        placement: Placement,
        journal: Journal | None,
    ) -> None:
        self._student, self._teacher = student.open(), teacher.open()
        self._texts, self._settings, self._placement, self._journal = texts, settings, placement, journal
        self._batches = list(training_batches(student, texts, settings))
        self._validation = student.batches(texts.validation, settings.seed)
        teacher.model.requires_grad_(False)
        student.model.requires_grad_(False)
        self._trained = trained_parameters(self._student)
        for parameter in self._trained:
            parameter.requires_grad_(True)
        rate = settings.learning_rate or student.task.recovery_rate
        self._rate = rate
        self._optimizer = torch.optim.AdamW(self._trained, lr=rate, weight_decay=0.0)
        self._curve: list[CurvePoint] = []
        self._best: list[Tensor] = []
        self._best_at = 0

    def train(self, progress: Progress) -> RecoveryRecord:
        """Take all steps."""
        steps = len(self._batches)
        every = max(1, math.ceil(steps / self._settings.evaluations))
        start, tokens = self._resumed()
        reason = ""
        for number in range(start, steps):
            batch = self._batches[number]
            if not self._step(number, batch):
                reason = f"the loss was not a finite number after {number} steps"
                break
            tokens += batch.tokens
            progress((number + 1) / steps)
            if (number + 1) % every == 0 or number + 1 == steps:
                self._measure(tokens)
                self._keep(number + 1)
        with torch.no_grad():
            for parameter, best in zip(self._trained, self._best, strict=True):
                parameter.copy_(best)
        if not reason and self._best_at == 0:
            reason = "training did not lower the divergence on texts that it did not see"
        if reason:
            logger.warning("Recovery: %s; the %s weights are kept.", reason, "best" if self._best_at else "pruned")
        return RecoveryRecord(
            reason="" if self._best_at else reason,
            texts=len(self._texts.training),
            texts_sha256=self._texts.sha256,
            validation_texts=len(self._texts.validation),
            tokens=tokens,
            steps=steps,
            learning_rate=self._rate,
            hidden_weight=self._settings.hidden_weight,
            curve=tuple(self._curve),
            best=self._best_at,
        )

    def _factor(self, step: int) -> float:
        """Return the share of the highest learning rate at a step, counted from 0."""
        warmup = max(1, round(WARMUP_SHARE * len(self._batches)))
        rising = (step + 1) / warmup
        falling = (len(self._batches) - step) / max(1, len(self._batches) - warmup)
        return max(0.0, min(rising, falling, 1.0))

    def _step(self, number: int, batch: Batch) -> bool:
        """Take a step, counted from 0, and return whether the loss was finite."""
        batch = batch.to(self._placement.device)
        with torch.no_grad(), self._placement.network():
            target = activations(self._teacher, batch)
        with self._placement.network():
            found = activations(self._student, batch)
            loss = output_loss(self._student, found, target) + self._settings.hidden_weight * hidden_loss(found, target)
        if not bool(torch.isfinite(loss)):
            return False
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._trained, LARGEST_GRADIENT)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * self._factor(number)
        self._optimizer.step()
        return True

    @torch.no_grad()
    def _measure(self, tokens: int) -> None:
        """Add the divergence on the validation texts to the curve, and keep the weights where it is the lowest."""
        total, texts = 0.0, 0
        for batch in (x.to(self._placement.device) for x in self._validation):
            with self._placement.network():
                target, found = activations(self._teacher, batch), activations(self._student, batch)
                by_text = self._student.divergence(found.output, target.output, found.context, 1.0)
            total += float(by_text.double().sum())
            texts += len(batch.rows)
        divergence = total / texts
        self._curve.append(CurvePoint(tokens=tokens, divergence=divergence if math.isfinite(divergence) else 1e30))
        if self._curve[-1].divergence <= min(x.divergence for x in self._curve):
            self._best_at = len(self._curve) - 1
            self._best = [parameter.detach().clone() for parameter in self._trained]

    def _resumed(self) -> tuple[int, int]:
        """Take up the state of an earlier run, and return how many steps and tokens it has done."""
        kept = self._journal.load(_STATE) if self._journal else None
        if kept is None:
            self._measure(0)
            return 0, 0
        count = range(len(self._trained))
        with torch.no_grad():
            for number, parameter in enumerate(self._trained):
                parameter.copy_(kept[f"weight/{number}"])
        device = self._placement.device
        self._best = [kept[f"best/{number}"].to(device) for number in count]
        moments = {
            number: {
                "step": kept["step"].float().clone(),
                "exp_avg": kept[f"mean/{number}"].to(device),
                "exp_avg_sq": kept[f"square/{number}"].to(device),
            }
            for number in count
        }
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": moments})
        points = zip(kept["curve_tokens"].tolist(), kept["curve_divergence"].tolist(), strict=True)
        self._curve = [CurvePoint(tokens=tokens, divergence=divergence) for tokens, divergence in points]
        self._best_at = int(kept["best_at"])
        return int(kept["step"]), self._curve[-1].tokens

    def _keep(self, steps: int) -> None:
        """Write down the state after some steps."""
        if self._journal is None:
            return
        state: dict[Any, Any] = self._optimizer.state_dict()["state"]
        tensors = {
            "step": torch.tensor(steps),
            "best_at": torch.tensor(self._best_at),
            "curve_tokens": torch.tensor([x.tokens for x in self._curve]),
            "curve_divergence": torch.tensor([x.divergence for x in self._curve], dtype=torch.float64),
        }
        for number, parameter in enumerate(self._trained):
            tensors[f"weight/{number}"] = parameter.detach().clone()
            tensors[f"best/{number}"] = self._best[number]
            moments = state.get(number, {})  # none of a pooler that nothing reads
            tensors[f"mean/{number}"] = moments.get("exp_avg", torch.zeros_like(parameter)).clone()
            tensors[f"square/{number}"] = moments.get("exp_avg_sq", torch.zeros_like(parameter)).clone()
        self._journal.save(_STATE, tensors)


def trained_parameters(adapter: EncoderAdapter) -> list[nn.Parameter]:
    """Return the parameters of the encoder that are trained: all but embedding tables, and what shares their memory."""
    tables = {id(module.weight) for module in adapter.model.modules() if isinstance(module, nn.Embedding)}
    return [x for x in adapter.encoder.parameters() if id(x) not in tables and x.numel()]


def _weights_sum(model: nn.Module) -> list[float]:
    """Return a few numbers that identify a model's weights."""
    return [float(x.double().sum()) for x in model.parameters()]
