import pytest
import torch

from pruning.methods.kprune_paper.knowledge import (
    feature_energy,
    importance,
    predictive_knowledge,
    representational_knowledge,
)


def test_predictive_by_hand() -> None:
    # two texts, two tokens, two units of one column: ∂D/∂m is the sum over tokens of features·gradient
    features = torch.tensor([[[1.0, 2.0], [3.0, 0.0]], [[-1.0, 1.0], [0.0, 2.0]]])
    gradient = torch.tensor([[[0.5, 1.0], [1.0, 9.0]], [[2.0, -1.0], [5.0, 0.5]]])
    # text 0: (0.5 + 3, 2 + 0) = (3.5, 2); text 1: (-2 + 0, -1 + 1) = (-2, 0)
    assert predictive_knowledge(features, gradient, 1).tolist() == [0.5 * (3.5**2 + 4), 0.5 * (4 + 0)]
    # as one unit of two columns: text 0: 5.5, text 1: -2
    assert predictive_knowledge(features, gradient, 2).tolist() == [0.5 * (5.5**2 + 4)]


def test_predictive_is_the_gradient_of_an_explicit_mask() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 5, 8, dtype=torch.float64)
    weight = torch.randn(8, 6, dtype=torch.float64)
    mask = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)  # one for each text and unit of two columns
    leaf = features.clone().requires_grad_()
    for masked in (features * mask.repeat_interleave(2, 1)[:, None], leaf):
        ((masked @ weight).tanh().sum((1, 2)) ** 2).sum().backward()
    assert mask.grad is not None
    assert leaf.grad is not None
    expected = 0.5 * mask.grad.square().sum(0)
    assert torch.allclose(predictive_knowledge(features, leaf.grad, 2), expected, rtol=1e-12)


def test_predictive_does_not_depend_on_batching() -> None:
    torch.manual_seed(1)
    features, gradient = torch.randn(2, 6, 4, 3, dtype=torch.float64)
    whole = predictive_knowledge(features, gradient, 1)
    parts = sum(predictive_knowledge(features[i : i + 2], gradient[i : i + 2], 1) for i in (0, 2, 4))
    assert torch.allclose(whole, torch.as_tensor(parts))


def test_energy_leaves_padding_out() -> None:
    features = torch.tensor([[[1.0, 2.0], [7.0, 7.0]], [[3.0, 0.0], [1.0, 1.0]]])
    assert feature_energy(features, torch.tensor([[1, 0], [1, 1]])).tolist() == [11.0, 5.0]


def test_representational_of_a_neuron_is_the_squared_distance_it_adds() -> None:
    torch.manual_seed(2)
    features = torch.randn(4, 7, 5, dtype=torch.float64)
    weight = torch.randn(6, 5, dtype=torch.float64)
    energy = feature_energy(features, torch.ones(4, 7))
    found = representational_knowledge(energy, weight, 1)
    for neuron in range(5):
        masked = features.clone()
        masked[..., neuron] = 0
        distance = ((features - masked) @ weight.T).square().sum() / 6  # mean over the 6 outputs
        assert found[neuron].item() == pytest.approx(distance.item())


def test_representational_of_a_head_is_the_mean_over_its_columns() -> None:
    energy = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    weight = torch.tensor([[1.0, 0.0, 2.0, 1.0], [1.0, 2.0, 0.0, 1.0]])
    # mean of squares by column: 1, 2, 2, 1; times the energy: 1, 4, 6, 4
    assert representational_knowledge(energy, weight, 2).tolist() == [2.5, 5.0]


def test_importance_by_hand() -> None:
    scores = importance(torch.tensor([1.0]), torch.tensor([4.0]), balance=0.5, head_weight=8.0, flops=12)
    assert scores.item() == pytest.approx(2.0)
    with pytest.raises(ValueError, match="not of one sublayer"):
        importance(torch.ones(2), torch.ones(3), 1.0, 1.0, 1)
