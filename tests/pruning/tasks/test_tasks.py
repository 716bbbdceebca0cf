"""Each task's divergence: cases by hand, and what all have in common."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pruning import tasks
from pruning.calibration.examples import Example
from pruning.errors import CalibrationError
from pruning.tasks import (
    AnswerSpan,
    MaskedLanguageModelling,
    MultiLabel,
    Regression,
    Reranking,
    SentenceEmbedding,
    SingleLabel,
    Task,
    TokenFeatures,
    TokenLabels,
)
from pruning.tasks import token as token_tasks

ALL = (
    SingleLabel(("a", "b", "c")),
    MultiLabel(("a", "b", "c")),
    Regression(("a", "b", "c")),
    Reranking(("score",)),
    SentenceEmbedding(width=3),
    TokenLabels(("a", "b", "c")),
    TokenFeatures(width=3),
    AnswerSpan(),
    MaskedLanguageModelling(width=3),
)
NO_MASK = torch.ones(1, 1)


def shape_of(task: Task, texts: int = 20, tokens: int = 7) -> tuple[int, ...]:
    if len(task.outputs) > 1:
        return (texts, tokens, len(task.outputs))
    (output,) = task.outputs
    assert output.width is not None
    return (texts, tokens, output.width) if output.per_token else (texts, output.width)


def kl(student: list[float], teacher: list[float]) -> float:
    """KL of two softmaxes, in plain Python."""
    p, q = ([math.exp(x) / sum(map(math.exp, logits)) for x in logits] for logits in (student, teacher))
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def double(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_names_are_unique() -> None:
    assert len({task.name for task in ALL}) == len(ALL)
    assert {type(task).__name__ for task in ALL} == set(tasks.__all__) - {"Output", "Task"}


def test_single_label_by_hand() -> None:
    # student (3/4, 1/4), teacher (1/2, 1/2): KL = 3/4·ln(3/2) + 1/4·ln(1/2)
    found = ALL[0].divergence(double([math.log(3.0), 0.0]), double([0.0, 0.0]), NO_MASK)
    assert found.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-12)


@pytest.mark.parametrize("task", [task for task in ALL if not isinstance(task, MultiLabel)], ids=repr)
def test_temperature_divides_logits_and_multiplies_by_its_square(task: Task) -> None:
    student, teacher = torch.randn(2, *shape_of(task), dtype=torch.float64)
    counted = torch.ones(20, 7)
    cold = task.divergence(student / 2, teacher / 2, counted)
    assert torch.allclose(task.divergence(student, teacher, counted, 2.0), 4 * cold)


def test_multi_label_sums_bernoulli_divergences() -> None:
    # each label is a two-class problem with logits (x, 0)
    student, teacher = [0.7, -1.1], [-0.2, 0.4]
    by_label = [kl([s, 0.0], [t, 0.0]) for s, t in zip(student, teacher, strict=True)]
    found = ALL[1].divergence(double(student), double(teacher), NO_MASK)
    assert found.item() == pytest.approx(sum(by_label), rel=1e-12)


@pytest.mark.parametrize("task", ALL[2:5], ids=repr)
def test_squared_distance(task: Task) -> None:
    student, teacher = double([1.0, 2.0], [0.0, 0.0]), double([0.0, 4.0], [0.0, 0.0])
    assert task.divergence(student, teacher, NO_MASK, 7.0).tolist() == [5.0, 0.0]


@pytest.mark.parametrize("task", [TokenLabels(("a", "b")), MaskedLanguageModelling(width=2)], ids=repr)
def test_classes_of_tokens_are_summed_over_those_that_count(task: Task) -> None:
    student = double([[1.0, 0.0], [0.5, -0.5], [9.0, -9.0]], [[0.3, 0.1], [5.0, 1.0], [7.0, 3.0]])
    teacher = double([[0.0, 0.0], [0.1, 0.9], [-4.0, 4.0]], [[0.2, 0.7], [1.0, 5.0], [3.0, 7.0]])
    found = task.divergence(student, teacher, torch.tensor([[1, 1, 0], [1, 0, 0]]))
    first = kl([1.0, 0.0], [0.0, 0.0]) + kl([0.5, -0.5], [0.1, 0.9])
    assert found.tolist() == pytest.approx([first, kl([0.3, 0.1], [0.2, 0.7])], rel=1e-12)


def test_features_of_tokens_are_summed_over_those_that_count() -> None:
    student, teacher = double([[1.0, 2.0], [3.0, 0.0]]), double([[0.0, 4.0], [0.0, 4.0]])
    assert TokenFeatures(width=2).divergence(student, teacher, torch.tensor([[1, 0]])).tolist() == [5.0]
    assert TokenFeatures(width=2).divergence(student, teacher, torch.tensor([[1, 1]])).tolist() == [30.0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_spans_are_two_distributions_over_the_tokens_that_count(temperature: float) -> None:
    start, end = ([1.0, 2.0, 3.0], [0.0, 1.0, -1.0]), ([0.0, 0.5, 9.0], [2.0, 1.0, 9.0])  # student, teacher
    student, teacher = (double(list(zip(start[i], end[i], strict=True))) for i in (0, 1))
    found = AnswerSpan().divergence(student, teacher, torch.tensor([[1, 1, 0]]), temperature)
    cold = [[[x / temperature for x in logits[:2]] for logits in pair] for pair in (start, end)]
    assert found.item() == pytest.approx(temperature**2 * (kl(*cold[0]) + kl(*cold[1])), rel=1e-12)


@pytest.mark.parametrize("task", ALL, ids=repr)
def test_zero_at_the_teacher_and_never_below(task: Task) -> None:
    teacher = torch.randn(shape_of(task), dtype=torch.float64)
    counted = torch.ones(20, 7)
    assert task.divergence(teacher, teacher, counted, 2.0).abs().max() < 1e-12
    moved = task.divergence(teacher + torch.randn(shape_of(task)), teacher, counted, 2.0)
    assert moved.shape == (20,)
    assert moved.min() > 0


@pytest.mark.parametrize("task", [task for task in ALL if task.outputs[0].per_token], ids=repr)
def test_padding_changes_nothing_and_gets_no_gradient(task: Task) -> None:
    student, teacher = torch.randn(2, *shape_of(task))
    counted = (torch.arange(7) < torch.randint(1, 7, (20, 1))).long()
    expected = task.divergence(student, teacher, counted, 2.0)
    other = torch.where(counted[..., None].bool(), student, 100.0).requires_grad_()
    found = task.divergence(other, teacher, counted, 2.0)
    assert torch.allclose(found, expected)
    found.sum().backward()
    assert other.grad is not None
    assert other.grad.isfinite().all()
    assert (other.grad[counted == 0] == 0).all()
    short = task.divergence(student[:1, :3], teacher[:1, :3], torch.ones(1, 3))
    cut = torch.tensor([[1, 1, 1, 0, 0, 0, 0]])
    assert torch.allclose(task.divergence(student[:1], teacher[:1], cut), short)


@pytest.mark.parametrize("chunk", [1, 11, 10**6])
def test_a_vocabulary_is_compared_in_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_tasks, "CHUNK_VALUES", chunk)
    torch.manual_seed(0)
    task, linear = MaskedLanguageModelling(width=5), nn.Linear(4, 5).double()
    applied: list[int] = []

    class Head(nn.Module):
        def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
            applied.append(hidden.shape[1])
            logits: Tensor = linear(hidden)
            return logits

    student, teacher = torch.randn(2, 3, 6, 4, dtype=torch.float64)
    student.requires_grad_()
    counted = torch.tensor([[0, 1, 1, 0, 1, 0], [0] * 6, [1, 0, 0, 0, 0, 1]])
    kept = [task.representation(Head(), x, torch.ones(3, 6), counted) for x in (student, teacher)]
    assert [tuple(x.shape) for x in kept] == [(5, 4)] * 2
    assert applied == []
    found = task.representation_divergence(Head(), kept[0], kept[1], counted, 2.0)
    expected = task.divergence(linear(student), linear(teacher), counted, 2.0)
    assert torch.allclose(found, expected)
    assert found[1] == 0
    assert max(applied) <= max(1, chunk // 5)
    (gradient,) = torch.autograd.grad(found.sum(), student)
    (wanted,) = torch.autograd.grad(expected.sum(), student)
    assert torch.allclose(gradient, wanted)


@pytest.mark.parametrize(
    ("task", "problem"), [(Reranking(("x",)), "scores pairs of texts"), (AnswerSpan(), "finds answers to questions")]
)
def test_tasks_that_need_pairs_refuse_single_texts(task: Task, problem: str) -> None:
    pairs = [Example("a", "b"), Example("c", "d")]
    assert task.texts(pairs) == pairs
    with pytest.raises(CalibrationError, match=f"{problem}.* but 1 of 2 examples are single texts"):
        task.texts([Example("a", "b"), Example("c")])


@pytest.mark.parametrize("task", [SentenceEmbedding(width=3), MaskedLanguageModelling(width=3)], ids=repr)
def test_tasks_that_read_single_texts_take_pairs_apart(task: Task) -> None:
    assert task.texts([Example("a", "b", 1), Example("c")]) == [Example("a"), Example("b"), Example("c")]


MakeCheckpoint = Callable[..., Path]
