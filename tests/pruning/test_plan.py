import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.errors import PlanError
from pruning.plan import CalibrationRecord, EncoderShape, LayerPlan, MethodRecord, PruningPlan

SHAPE = EncoderShape(layers=2, hidden_size=8, heads=4, head_size=2, neurons=6)


def make_plan(layers: tuple[LayerPlan, ...]) -> PruningPlan:
    return PruningPlan(
        family="bert",
        shape=SHAPE,
        sequence_length=3,
        requested_reduction=0.5,
        source_sha256="0" * 64,
        method=MethodRecord(name="kprune", parameters={"temperature": 2.0}),
        calibration=CalibrationRecord(texts=2, tokens=9, sha256="1" * 64, seed=0),
        layers=layers,
    )


indices = st.builds(
    lambda heads, neurons: LayerPlan(heads=tuple(sorted(heads)), neurons=tuple(sorted(neurons))),
    st.sets(st.integers(0, 3)),
    st.sets(st.integers(0, 5)),
)


@given(st.tuples(indices, indices))
def test_round_trip(layers: tuple[LayerPlan, ...]) -> None:
    plan = make_plan(layers)
    again = PruningPlan.from_json(plan.to_json())
    assert again == plan
    assert again.sha256 == plan.sha256
    assert json.loads(plan.to_json())["layers"][0]["heads"] == list(layers[0].heads)


def test_flops_by_hand() -> None:
    plan = make_plan((LayerPlan(heads=(0,), neurons=(1, 2)), LayerPlan(heads=(), neurons=())))
    head, neuron = 8 * 8 * 2 * 3 + 4 * 9 * 2, 4 * 8 * 3
    assert plan.dense_flops == 2 * (4 * head + 6 * neuron)
    assert plan.kept_flops == head + 2 * neuron
    assert plan.flops_reduction == 1 - (head + 2 * neuron) / (2 * (4 * head + 6 * neuron))
    assert plan.attention_layers == 1


def test_a_layer_is_a_line() -> None:
    text = make_plan((LayerPlan(heads=(0, 3), neurons=(1,)), LayerPlan(heads=(), neurons=(0, 5)))).to_json()
    assert '    {"heads": [0, 3],\n     "neurons": [1]},\n' in text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d["layers"][0].update(heads=[2, 1]), "ascending"),
        (lambda d: d["layers"][0].update(heads=[1, 1]), "ascending"),
        (lambda d: d["layers"][1].update(neurons=[6]), "layer 1 keeps neuron 6, but has only 6"),
        (lambda d: d["layers"].pop(), "1 layers are planned for an encoder of 2"),
        (lambda d: d.update(version=2), "version"),
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d["layers"][0].update(heads=[-1]), "greater than or equal to 0"),
    ],
)
def test_refuses_a_bad_plan(change: object, problem: str, tmp_path: Path) -> None:
    data = json.loads(make_plan((LayerPlan(heads=(), neurons=()), LayerPlan(heads=(), neurons=()))).to_json())
    change(data)  # type: ignore[operator]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(PlanError, match=problem):
        PruningPlan.read(path)


def test_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"nowhere\.json cannot be read"):
        PruningPlan.read(tmp_path / "nowhere.json")
