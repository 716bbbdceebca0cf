"""Recovery: the loss by hand, weights that are never worse, equal bytes after a kill, and when there is none."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint, load_checkpoint
from pruning.methods.journal import Journal
from pruning.prune import prune_checkpoint
from pruning.recovery import train
from pruning.recovery.loss import Activations, activations, hidden_loss, output_loss
from pruning.recovery.settings import RecoverySettings
from pruning.recovery.texts import split_texts, training_batches
from pruning.recovery.train import recover, trained_parameters
from pruning.settings import PruningSettings

SETTINGS = RecoverySettings(tokens=12_000, epochs=20, learning_rate=1e-3, batch_size=8, evaluations=4)


@pytest.fixture(scope="module")
def texts(make_sentences: Callable[..., list[str]]) -> list[Example]:
    return [Example(text) for text in make_sentences(160, seed=3)]


@pytest.fixture
def pruned(classifier: Path, texts: list[Example]) -> tuple[EncoderCheckpoint, EncoderCheckpoint]:
    """A student and its teacher."""
    student, teacher = load_checkpoint(classifier), load_checkpoint(classifier)
    prune_checkpoint(student, texts[:40], PruningSettings(flops_reduction=0.6, method="random", sequence_length=16))
    return student, teacher


def weights(checkpoint: EncoderCheckpoint) -> list[torch.Tensor]:
    return [x.detach().clone() for x in checkpoint.model.parameters()]


def divergence(student: EncoderCheckpoint, teacher: EncoderCheckpoint, texts: list[Example]) -> float:
    total = 0.0
    with torch.no_grad():
        for batch in student.batches(texts):
            found, target = activations(student.open(), batch), activations(teacher.open(), batch)
            total += float(student.open().divergence(found.output, target.output, found.context, 1.0).sum())
    return total / len(texts)


def test_the_losses_by_hand(classifier: Path) -> None:
    adapter = load_checkpoint(classifier).open()
    context = adapter.context(torch.tensor([[1, 1, 0], [1, 1, 1]]))
    teacher = Activations(
        torch.tensor([[0.0, 0.0], [0.0, 0.0]]), (torch.ones(2, 3, 4), 2 * torch.ones(2, 3, 4)), context
    )
    first = torch.ones(2, 3, 4)
    first[0, 0] = 3.0  # one token of five is off by 2, its square 4: 4/5 over a mean square of 1
    first[0, 2] = 99.0  # padding
    second = torch.full((2, 3, 4), 3.0)  # off by 1 everywhere, over a mean square of 4
    student = Activations(torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]]), (first, second), context)
    assert float(hidden_loss(student, teacher)) == pytest.approx((4 / 5 / 1 + 1 / 4) / 2)
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(output_loss(adapter, student, teacher)) == pytest.approx(by_hand / 2)


def test_it_lowers_the_divergence_on_other_texts(
    pruned: tuple[EncoderCheckpoint, EncoderCheckpoint], texts: list[Example], make_sentences: Callable[..., list[str]]
) -> None:
    student, teacher = pruned
    others = [Example(text) for text in make_sentences(60, seed=77)]
    before, tables = divergence(student, teacher, others), student.model.get_input_embeddings().weight.clone()
    record = recover(student, teacher, texts, SETTINGS)
    assert record.reason == ""
    assert record.before is not None
    assert record.after is not None
    assert record.after == min(x.divergence for x in record.curve) < record.before
    assert divergence(student, teacher, others) < 0.8 * before
    assert SETTINGS.tokens <= record.tokens < SETTINGS.tokens + 8 * 20
    assert torch.equal(student.model.get_input_embeddings().weight, tables)  # embedding tables stay
    assert not any(x.requires_grad for x in student.model.parameters())


def test_a_model_that_is_the_teacher_stays_as_it_is(classifier: Path, texts: list[Example]) -> None:
    student, teacher = load_checkpoint(classifier), load_checkpoint(classifier)
    before = weights(student)
    record = recover(student, teacher, texts, SETTINGS)
    assert record.curve[0].divergence == pytest.approx(0, abs=1e-9)
    assert record.best == 0 or record.after == pytest.approx(0, abs=1e-9)
    for mine, was in zip(weights(student), before, strict=True):
        torch.testing.assert_close(mine, was, atol=1e-5, rtol=1e-4)


def test_weights_are_never_worse(
    pruned: tuple[EncoderCheckpoint, EncoderCheckpoint], texts: list[Example], caplog: pytest.LogCaptureFixture
) -> None:
    """A learning rate that ruins the model: the pruned weights are kept, bit for bit."""
    student, teacher = pruned
    before = weights(student)
    record = recover(student, teacher, texts, SETTINGS.model_copy(update={"learning_rate": 1.0}))
    assert record.best == 0
    assert "training did not lower the divergence" in record.reason or "not a finite number" in record.reason
    assert "the pruned weights are kept" in caplog.text
    assert all(torch.equal(mine, was) for mine, was in zip(weights(student), before, strict=True))


def test_a_loss_that_is_not_finite_ends_training(
    pruned: tuple[EncoderCheckpoint, EncoderCheckpoint], texts: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = pruned
    before, steps = weights(student), []

    def loss(*arguments: object) -> torch.Tensor:
        steps.append(1)
        return output_loss(*arguments) * (float("nan") if len(steps) == 3 else 1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "output_loss", loss)
    record = recover(student, teacher, texts, SETTINGS.model_copy(update={"evaluations": 1}))
    assert record.reason == "the loss was not a finite number after 2 steps"
    assert all(torch.equal(mine, was) for mine, was in zip(weights(student), before, strict=True))


def test_a_stopped_run_resumes_with_the_same_bytes(
    classifier: Path, texts: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def student() -> EncoderCheckpoint:
        found = load_checkpoint(classifier)
        settings = PruningSettings(flops_reduction=0.6, method="random", sequence_length=16)
        prune_checkpoint(found, texts[:40], settings)
        return found

    teacher, whole, stopped = load_checkpoint(classifier), student(), student()
    expected = recover(whole, teacher, texts, SETTINGS, journal_folder=tmp_path / "whole")
    saves, save = [], Journal.save

    def stop(self: Journal, step: str, tensors: dict[str, torch.Tensor]) -> None:
        save(self, step, tensors)
        saves.append(step)
        if len(saves) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, "save", stop)
        recover(stopped, teacher, texts, SETTINGS, journal_folder=tmp_path / "stopped")
    again, shares = student(), list[float]()
    found = recover(again, teacher, texts, SETTINGS, journal_folder=tmp_path / "stopped", progress=shares.append)
    assert shares[0] > 0.4  # half of it was done
    assert found == expected
    assert all(torch.equal(mine, other) for mine, other in zip(weights(again), weights(whole), strict=True))


@pytest.mark.parametrize("count", [1, 5])
def test_too_few_different_texts_are_no_error(
    count: int, pruned: tuple[EncoderCheckpoint, EncoderCheckpoint], texts: list[Example]
) -> None:
    record = recover(*pruned, [*texts[:count]] * 100, SETTINGS)
    assert record.reason == f"there are {count} different texts to recover with, which are too few to train on"
    assert (record.curve, record.before, record.best) == ((), None, 0)


def test_the_budget_and_the_passes_bound_the_work(classifier: Path, texts: list[Example]) -> None:
    checkpoint = load_checkpoint(classifier)
    parts = split_texts(texts, SETTINGS)
    assert not set(parts.training) & set(parts.validation)
    assert len(parts.validation) == len({x.text for x in texts}) // 10
    one = RecoverySettings(tokens=10**9, epochs=1, batch_size=8)
    batches = list(training_batches(checkpoint, parts, one))
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(parts.training)))
    few = list(training_batches(checkpoint, parts, one.model_copy(update={"tokens": 100})))
    assert [x.rows for x in few] == [x.rows for x in batches[: len(few)]]
    assert sum(x.tokens for x in few[:-1]) < 100 <= sum(x.tokens for x in few)
    tables = {id(checkpoint.model.get_input_embeddings().weight)}
    assert not tables & {id(x) for x in trained_parameters(checkpoint.open())}
