"""The contract of every pruning method."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import TINY_FAMILIES
from torch import Tensor

from pruning import PruningSettings, load_checkpoint, prune_checkpoint, sensitivity_of
from pruning.calibration.batches import Batch, make_batches
from pruning.calibration.examples import Example
from pruning.errors import BudgetError, CalibrationError, CheckpointError, MethodError
from pruning.methods import METHODS, method_for
from pruning.methods.base import PruningRun
from pruning.methods.journal import Journal
from pruning.methods.kprune.method import widths_under
from pruning.methods.least_squares import NormalEquations
from pruning.plan import PruningPlan

every_method = pytest.mark.parametrize("method", METHODS)
that_solves = pytest.mark.parametrize("method", ["kprune", "kprune-paper"])
that_tunes = pytest.mark.parametrize("method", ["kprune", "kprune-paper", "kwon2022", "kcm2023"])


def prune(
    folder: Path, texts: list[Example], reduction: float, journal: Path | None = None, method: str = "kprune"
) -> tuple[PruningPlan, dict[str, Tensor]]:
    checkpoint = load_checkpoint(folder)
    settings = PruningSettings(flops_reduction=reduction, method=method, sequence_length=16)
    plan = prune_checkpoint(checkpoint, texts, settings, journal_folder=journal)
    return plan, {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}


def within_reach(method: str, reduction: float) -> float:
    """Return a reduction that the method can reach on the tiny models: of kcm2023's FFNs alone, or of everything."""
    return 0.375 * reduction if method == "kcm2023" else reduction


def same(weights: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


@every_method
@pytest.mark.parametrize("reduction", [0.03, 0.5, 0.77, 0.99])
@pytest.mark.parametrize("kind", ["classifier", "embedder"])
def test_lands_within_one_neuron(
    kind: str, reduction: float, method: str, request: pytest.FixtureRequest, texts: list[Example]
) -> None:
    if method == "kcm2023" and reduction > 0.375:  # the FFNs' share of this encoder's FLOPs
        with pytest.raises(BudgetError, match="removes FFN neurons only, which are 37"):
            prune(request.getfixturevalue(kind), texts, reduction, method=method)
        return
    plan, _ = prune(request.getfixturevalue(kind), texts, reduction, method=method)
    assert plan.method.name == method
    assert plan.flops_reduction >= reduction
    assert plan.flops_reduction - reduction < plan.costs.neuron / plan.dense_flops


def test_widths_may_be_given_in_place_of_a_budget(classifier: Path, texts: list[Example]) -> None:
    by_budget, weights = prune(classifier, texts, 0.5)
    widths = tuple((len(layer.heads), len(layer.neurons)) for layer in by_budget.layers)
    checkpoint = load_checkpoint(classifier)
    settings = PruningSettings(widths=widths, sequence_length=16)
    plan = prune_checkpoint(checkpoint, texts, settings)
    assert plan.layers == by_budget.layers
    assert same(weights, dict(checkpoint.model.state_dict()))
    assert plan.requested_reduction is None
    assert PruningPlan.from_json(plan.to_json()) == plan


def test_sensitivity_is_what_pruning_measures_and_changes_nothing(
    classifier: Path, texts: list[Example], tmp_path: Path
) -> None:
    checkpoint, untouched = load_checkpoint(classifier), load_checkpoint(classifier)
    settings = PruningSettings(sequence_length=16)
    curves = sensitivity_of(checkpoint, texts, settings, journal_folder=tmp_path)
    assert same(dict(checkpoint.model.state_dict()), dict(untouched.model.state_dict()))
    assert [(curve.widths[0], curve.widths[-1]) for curve in curves] == [(4, 0), (48, 0)] * 2
    assert all(abs(curve.losses[0]) < 1e-4 < curve.losses[-1] for curve in curves)
    allocated = widths_under(
        curves,
        PruningRun(checkpoint.open(), (), settings).costs,
        METHODS["kprune"].budget(checkpoint.open().shape, PruningSettings(flops_reduction=0.5, sequence_length=16)),
    )
    plan, _ = prune(classifier, texts, 0.5)
    assert allocated == [width for layer in plan.layers for width in (len(layer.heads), len(layer.neurons))]


@pytest.mark.parametrize(
    ("widths", "method", "message"),
    [
        (((4, 48),), "kprune", "given for 1 layers, but the encoder has 2"),
        (((4, 48), (5, 48)), "kprune", "5 heads and 48 neurons, but a dense layer has 4 and 48"),
        (((4, 48), (4, 48)), "kwon2022", "needs a FLOPs reduction: only kprune can be given widths"),
    ],
)
def test_widths_that_do_not_fit_are_refused(
    widths: tuple[tuple[int, int], ...], method: str, message: str, classifier: Path, texts: list[Example]
) -> None:
    with pytest.raises(BudgetError, match=message):
        prune_checkpoint(load_checkpoint(classifier), texts, PruningSettings(widths=widths, method=method))


@pytest.mark.parametrize("method", ["kwon2022", "kcm2023", "magnitude"])
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_peers_prune_every_family(
    family: str, method: str, make_checkpoint: Callable[..., Path], texts: list[Example]
) -> None:
    checkpoint = load_checkpoint(make_checkpoint(family=family))
    dense = load_checkpoint(checkpoint.folder.path)
    settings = PruningSettings(flops_reduction=0.2, method=method, sequence_length=16)
    plan = prune_checkpoint(checkpoint, texts, settings)
    assert 0 <= plan.flops_reduction - 0.2 < plan.costs.neuron / plan.dense_flops
    adapter, moved, apart = dense.open(), 0.0, 0.0
    for batch in dense.batches(texts[:16]):
        context = adapter.context(batch.attention_mask, batch.counted)
        teacher, student = (x.head(x.open().encode(batch.inputs), batch.attention_mask) for x in (dense, checkpoint))
        moved += float(adapter.divergence(student, teacher, context, 1.0).sum())
        apart += float(adapter.divergence(-teacher, teacher, context, 1.0).sum())
    assert 0 < moved < apart  # it has changed, and is still the same model


@every_method
def test_the_same_inputs_give_the_same_bytes(method: str, classifier: Path, texts: list[Example]) -> None:
    (plan, weights), (again, weights_again) = (
        prune(classifier, texts, within_reach(method, 0.5), method=method) for _ in range(2)
    )
    assert plan == again
    assert same(weights, weights_again)


class Killed(Exception):
    pass


@that_tunes
@pytest.mark.parametrize("stop_at", ["sublayer-000", "sublayer-002", "curve-001"])
def test_a_killed_run_goes_on_and_ends_the_same(
    stop_at: str, method: str, classifier: Path, texts: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method != "kprune" and stop_at.startswith("curve"):
        pytest.skip(f"{method} measures no curves")
    expected = prune(classifier, texts, within_reach(method, 0.6), method=method)
    save, saved = Journal.save, list[str]()

    def save_then_die(self: Journal, step: str, tensors: dict[str, Tensor]) -> None:
        save(self, step, tensors)
        if step == stop_at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "save", save_then_die)
        with pytest.raises(Killed):
            prune(classifier, texts, within_reach(method, 0.6), tmp_path, method)
    monkeypatch.setattr(Journal, "save", lambda self, step, tensors: saved.append(step) or save(self, step, tensors))
    plan, weights = prune(classifier, texts, within_reach(method, 0.6), tmp_path, method)
    assert saved[0] == f"{stop_at[:-1]}{int(stop_at[-1]) + 1}"  # it resumes with the step after the last
    assert plan == expected[0]
    assert same(weights, expected[1])


@that_tunes
def test_a_journal_of_another_run_is_not_used(
    method: str, classifier: Path, texts: list[Example], tmp_path: Path
) -> None:
    expected = prune(classifier, texts, within_reach(method, 0.7), method=method)[0]
    prune(classifier, texts, within_reach(method, 0.3), tmp_path, method)
    assert prune(classifier, texts, within_reach(method, 0.7), tmp_path, method)[0] == expected
    for path in tmp_path.glob("*.safetensors"):  # cut short, as by a crash of the machine
        path.write_bytes(path.read_bytes()[:50])
    assert prune(classifier, texts, within_reach(method, 0.7), tmp_path, method)[0] == expected


@that_solves
def test_tuning_brings_the_student_nearer_to_the_teacher(
    method: str, classifier: Path, texts: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Solved weights must give a smaller divergence than the old ones."""
    dense = load_checkpoint(classifier)
    batches = make_batches(dense.tokenizer, texts, 64)

    def divergence() -> float:
        checkpoint = load_checkpoint(classifier)
        settings = PruningSettings(flops_reduction=0.5, method=method, sequence_length=16)
        prune_checkpoint(checkpoint, texts, settings)
        teacher, student, total = dense.open(), checkpoint.open(), 0.0
        for batch in batches:
            context = teacher.context(batch.attention_mask)
            outputs = [x.head(x.encode(batch.inputs), batch.attention_mask) for x in (student, teacher)]
            total += float(teacher.divergence(outputs[0], outputs[1], context, 1.0).sum())
        return total

    with_tuning = divergence()
    monkeypatch.setattr(NormalEquations, "solve", lambda _self, weight, bias, _ridge: (weight, bias))
    assert with_tuning < 0.8 * divergence()


@every_method
def test_progress_rises_to_one(method: str, classifier: Path, batches: tuple[Batch, ...]) -> None:
    shares: list[float] = []
    settings = PruningSettings(flops_reduction=within_reach(method, 0.5), method=method)
    METHODS[method].prune(PruningRun(load_checkpoint(classifier).open(), batches, settings, progress=shares.append))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


@every_method
def test_an_impossible_budget_is_refused(method: str, classifier: Path, texts: list[Example]) -> None:
    with pytest.raises(BudgetError, match="leaves nothing to keep"):
        prune(classifier, texts, 0.999999, method=method)


def test_refusals(classifier: Path, texts: list[Example], tmp_path: Path) -> None:
    from pruning import save_pruned

    with pytest.raises(CalibrationError, match=r"hold 5 tokens, but at least 12 are needed for this model's 48"):
        prune(classifier, [Example("good bad film")], 0.5)
    checkpoint = load_checkpoint(classifier)
    plan = prune_checkpoint(checkpoint, texts, PruningSettings(flops_reduction=0.5))
    save_pruned(checkpoint, plan, tmp_path)
    with pytest.raises(CheckpointError, match="is pruned already, by 50"):
        prune(tmp_path, texts, 0.5)
    with pytest.raises(MethodError, match="no pruning method 'taylor': choose one of kprune, kprune-paper"):
        prune(classifier, texts, 0.5, method="taylor")
    with pytest.raises(MethodError, match="kprune has no hyperparameter 'balance' .it belongs to kprune-paper"):
        method_for(PruningSettings(flops_reduction=0.5, balance=1.0))


def test_few_tokens_are_warned_of(classifier: Path, caplog: pytest.LogCaptureFixture) -> None:
    prune(classifier, [Example("good bad film"), Example("a the of and to in")], 0.5)
    assert "hold 13 tokens, fewer than the 48 features of the widest sublayer" in caplog.text
