import math

import pytest
import torch

from pruning.tasks import TaskKind, divergence


def test_single_label_by_hand() -> None:
    # student (3/4, 1/4), teacher (1/2, 1/2): KL = 3/4·ln(3/2) + 1/4·ln(1/2)
    student = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    teacher = torch.zeros(1, 2, dtype=torch.float64)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert divergence(TaskKind.SINGLE_LABEL, student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_temperature_divides_logits_and_multiplies_by_its_square() -> None:
    student = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    teacher = torch.tensor([[0.3, 0.1, -1.0]], dtype=torch.float64)
    cold = divergence(TaskKind.SINGLE_LABEL, student / 2, teacher / 2)
    assert divergence(TaskKind.SINGLE_LABEL, student, teacher, 2.0).item() == pytest.approx(4 * cold.item())


def test_multi_label_sums_bernoulli_divergences() -> None:
    # each label is a two-class problem with logits (x, 0)
    student = torch.tensor([[0.7, -1.1]], dtype=torch.float64)
    teacher = torch.tensor([[-0.2, 0.4]], dtype=torch.float64)
    by_label = [
        divergence(
            TaskKind.SINGLE_LABEL,
            torch.tensor([[s, 0.0]], dtype=torch.float64),
            torch.tensor([[t, 0.0]], dtype=torch.float64),
        ).item()
        for s, t in zip(student[0].tolist(), teacher[0].tolist(), strict=True)
    ]
    assert divergence(TaskKind.MULTI_LABEL, student, teacher).item() == pytest.approx(sum(by_label), rel=1e-12)


@pytest.mark.parametrize("kind", [TaskKind.REGRESSION, TaskKind.EMBEDDING])
def test_squared_distance(kind: TaskKind) -> None:
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    assert divergence(kind, student, teacher, 7.0).tolist() == [5.0, 0.0]


@pytest.mark.parametrize("kind", list(TaskKind))
def test_zero_at_the_teacher_and_never_below(kind: TaskKind) -> None:
    teacher = torch.randn(20, 3, dtype=torch.float64)
    assert divergence(kind, teacher, teacher, 2.0).abs().max() < 1e-12
    assert divergence(kind, teacher + torch.randn(20, 3), teacher, 2.0).min() > 0
