from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pruning import KPruneSettings, load_checkpoint, prune_checkpoint
from pruning.calibration.batches import Batch, make_batches
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.errors import BudgetError, CalibrationError, CheckpointError
from pruning.kprune.boundary import Boundary
from pruning.kprune.journal import Journal
from pruning.kprune.loop import prune_encoder
from pruning.kprune.tuning import NormalEquations
from pruning.plan import PruningPlan
from pruning.tasks import divergence

MakeCheckpoint = Callable[..., Path]


def examples(make_sentences: Callable[..., list[str]], count: int = 80) -> list[Example]:
    return [Example(text) for text in make_sentences(count, length=14)]


@pytest.fixture
def batches(classifier: Path, make_sentences: Callable[..., list[str]]) -> tuple[Batch, ...]:
    checkpoint = load_checkpoint(classifier)
    return make_batches(checkpoint.tokenizer, examples(make_sentences), 64, batch_size=16)


def state(checkpoint: EncoderCheckpoint) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}


def prune(
    folder: Path, texts: list[Example], reduction: float, journal: Path | None = None
) -> tuple[PruningPlan, dict[str, Tensor]]:
    checkpoint = load_checkpoint(folder)
    settings = KPruneSettings(flops_reduction=reduction, sequence_length=16)
    plan = prune_checkpoint(checkpoint, texts, settings, seed=0, journal_folder=journal)
    return plan, state(checkpoint)


@pytest.mark.parametrize("reduction", [0.03, 0.25, 0.5, 0.77, 0.99])
@pytest.mark.parametrize("kind", ["classifier", "embedder"])
def test_lands_within_one_neuron(
    kind: str, reduction: float, request: pytest.FixtureRequest, make_sentences: Callable[..., list[str]]
) -> None:
    plan, _ = prune(request.getfixturevalue(kind), examples(make_sentences), reduction)
    assert plan.flops_reduction >= reduction
    assert plan.flops_reduction - reduction < plan.costs.neuron / plan.dense_flops


def test_the_same_inputs_give_the_same_bytes(classifier: Path, make_sentences: Callable[..., list[str]]) -> None:
    texts = examples(make_sentences)
    (plan, weights), (again, weights_again) = prune(classifier, texts, 0.5), prune(classifier, texts, 0.5)
    assert plan == again
    assert all(torch.equal(weights[name], weights_again[name]) for name in weights)


class Killed(Exception):
    pass


@pytest.mark.parametrize("stop_at", [0, 1, 3])
def test_a_killed_run_goes_on_and_ends_the_same(
    stop_at: int,
    classifier: Path,
    make_sentences: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = examples(make_sentences)
    expected = prune(classifier, texts, 0.6)
    save = Journal.save

    def save_then_die(self: Journal, number: int, tuned: object) -> None:
        save(self, number, tuned)  # type: ignore[arg-type]
        if number == stop_at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "save", save_then_die)
        with pytest.raises(Killed):
            prune(classifier, texts, 0.6, tmp_path)
    solved: list[int] = []
    solve = NormalEquations.solve
    monkeypatch.setattr(NormalEquations, "solve", lambda *a: solved.append(1) or solve(*a))
    plan, weights = prune(classifier, texts, 0.6, tmp_path)
    assert len(solved) == 4 - (stop_at + 1)
    assert plan == expected[0]
    assert all(torch.equal(weights[name], expected[1][name]) for name in weights)


def test_a_journal_of_another_run_is_not_used(
    classifier: Path, make_sentences: Callable[..., list[str]], tmp_path: Path
) -> None:
    texts = examples(make_sentences)
    prune(classifier, texts, 0.3, tmp_path)
    assert prune(classifier, texts, 0.7, tmp_path)[0] == prune(classifier, texts, 0.7)[0]
    for path in tmp_path.glob("*.safetensors"):  # cut short, as by a crash of the machine
        path.write_bytes(path.read_bytes()[:50])
    assert prune(classifier, texts, 0.7, tmp_path)[0] == prune(classifier, texts, 0.7)[0]


def test_no_layer_below_the_boundary_runs_again(make_checkpoint: MakeCheckpoint, batches: tuple[Batch, ...]) -> None:
    checkpoint = load_checkpoint(make_checkpoint(num_hidden_layers=3))
    calls: Counter[int] = Counter()
    for number, layer in enumerate(checkpoint.model.bert.encoder.layer):
        layer.intermediate.dense.register_forward_hook(lambda *_, n=number: calls.update([n]))
    # hooks vanish as layers are cut, so every count is of the dense layers: the teacher's outputs (1), each
    # score pass at or below the FFN (2·layer + 2), the teacher's move (1) and the student's features (1)
    prune_encoder(checkpoint.open(), batches, KPruneSettings(flops_reduction=0.4, sequence_length=16))
    assert calls == {layer: len(batches) * (1 + (2 * layer + 2) + 1 + 1) for layer in range(3)}


def test_scores_are_the_curvature_that_an_explicit_mask_has(
    make_checkpoint: MakeCheckpoint, batches: tuple[Batch, ...]
) -> None:
    """K_pred against its definition: masks on every unit, one set for each text, differentiated by autograd."""
    from pruning.flops import unit_costs
    from pruning.kprune.loop import _scores, _Work

    checkpoint = load_checkpoint(make_checkpoint(dtype=torch.float64))
    adapter = checkpoint.open()
    boundary = Boundary.at_embeddings(adapter, batches)
    for target in boundary.targets:  # a teacher that differs, so that the gradient is not zero
        target += torch.randn(target.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    settings = KPruneSettings(flops_reduction=0.5, balance=0.0, head_weight=1.0, sequence_length=16)
    costs = unit_costs(32, 8, 2, 16)
    found = _scores(adapter, boundary, 1, settings, costs, _Work(4, len(batches), lambda _: None))

    expected = [torch.zeros(x.units, dtype=torch.float64) for x in adapter.sublayers[1:]]
    for batch in boundary.batches:
        context = boundary.contexts[batch]
        texts = len(context.attention_mask)
        masks = [torch.ones(texts, x.units, dtype=torch.float64, requires_grad=True) for x in adapter.sublayers[1:]]
        hidden = boundary.student[batch]
        for sublayer, mask in zip(adapter.sublayers[1:], masks, strict=True):
            features = sublayer.features(hidden, context) * mask.repeat_interleave(sublayer.unit_size, 1)[:, None]
            hidden = sublayer.finish(hidden + sublayer.projection(features))
        student = adapter.output(hidden, context)
        divergence(adapter.task.kind, student, boundary.targets[batch], 2.0).sum().backward()
        for total, mask in zip(expected, masks, strict=True):
            assert mask.grad is not None
            total += 0.5 * mask.grad.square().sum(0)
    for scores, total, sublayer in zip(found, expected, adapter.sublayers[1:], strict=True):
        cost = costs.head if sublayer.kind == "attention" else costs.neuron
        assert torch.allclose(scores * cost, total, rtol=1e-9)


def test_tuning_brings_the_student_nearer_to_the_teacher(
    classifier: Path, make_sentences: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same masks, solved weights must give a smaller divergence than the old ones."""
    texts = examples(make_sentences)
    dense = load_checkpoint(classifier)
    batches = make_batches(dense.tokenizer, texts, 64)

    def divergence_of(folder: Path) -> float:
        checkpoint = load_checkpoint(folder)
        prune_checkpoint(checkpoint, texts, KPruneSettings(flops_reduction=0.5, sequence_length=16), seed=0)
        teacher, student = (
            Boundary.at_embeddings(dense.open(), batches),
            Boundary.at_embeddings(checkpoint.open(), batches),
        )
        both = zip(student.targets, teacher.targets, strict=True)
        return float(sum(divergence(dense.task.kind, s, t).sum() for s, t in both))

    with_tuning = divergence_of(classifier)
    monkeypatch.setattr(NormalEquations, "solve", lambda _self, weight, bias, _ridge: (weight, bias))
    assert with_tuning < 0.8 * divergence_of(classifier)


def test_progress_rises_to_one(classifier: Path, batches: tuple[Batch, ...]) -> None:
    shares: list[float] = []
    prune_encoder(
        load_checkpoint(classifier).open(),
        batches,
        KPruneSettings(flops_reduction=0.5),
        progress=shares.append,
    )
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_refusals(classifier: Path, make_sentences: Callable[..., list[str]], tmp_path: Path) -> None:
    from pruning import save_pruned

    texts = examples(make_sentences)
    with pytest.raises(BudgetError, match="leaves nothing to keep"):
        prune(classifier, texts, 0.999999)
    with pytest.raises(CalibrationError, match=r"hold 5 tokens, but at least 12 are needed for this model's 48"):
        prune(classifier, [Example("good bad film")], 0.5)
    checkpoint = load_checkpoint(classifier)
    plan = prune_checkpoint(checkpoint, texts, KPruneSettings(flops_reduction=0.5), seed=0)
    save_pruned(checkpoint, plan, tmp_path)
    with pytest.raises(CheckpointError, match="is pruned already, by 50"):
        prune(tmp_path, texts, 0.5)


def test_few_tokens_are_warned_of(classifier: Path, caplog: pytest.LogCaptureFixture) -> None:
    prune(classifier, [Example("good bad film"), Example("a the of and to in")], 0.5)
    assert "hold 13 tokens, fewer than the 48 features of the widest sublayer" in caplog.text
