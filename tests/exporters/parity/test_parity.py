import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from torch import nn

from exporters.errors import ParityError
from exporters.inputs import Padding, synthetic_inputs
from exporters.onnx.file import OnnxArtefact
from exporters.parity.check import FLOAT32_TOLERANCE, ParityReport, Tolerance, check_parity
from exporters.parity.first_difference import first_difference
from exporters.runners.base import Array, Feeds
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
from exporters.runners.torch_runner import TorchRunner
from exporters.spec import ModelSpec, Shape


def test_tolerance_by_hand() -> None:
    assert Tolerance(absolute=0.5, relative=0.1).bound(np.array([[2.0, -4.0]])) == pytest.approx(0.9)


def test_an_export_agrees_on_every_shape_and_padding(
    encoder: nn.Module, spec: ModelSpec, artefact: OnnxArtefact
) -> None:
    report = check_parity(TorchRunner(encoder, spec), OnnxRuntimeRunner(artefact.path, 2), spec)
    assert report.passed
    seen = {(case.shape, case.padding) for case in report.cases}
    assert seen == {(s, p) for s in ("1x1", "3x17", "8x64", "1x64") for p in map(str, Padding)}
    assert 0 <= report.worst.severity < 1
    report.raise_if_failed()
    assert ParityReport.model_validate_json(report.model_dump_json()) == report


def damaged(artefact: OnnxArtefact, weight: str, path: Path) -> Path:
    model = onnx.load(artefact.path)
    (tensor,) = [x for x in model.graph.initializer if x.name == weight]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), weight))
    onnx.save(model, path)
    return path


def test_damage_is_found_and_located(
    encoder: nn.Module, spec: ModelSpec, artefact: OnnxArtefact, tmp_path: Path
) -> None:
    path = damaged(artefact, "layers.1.norm.weight", tmp_path / "model.onnx")
    report = check_parity(
        TorchRunner(encoder, spec),
        OnnxRuntimeRunner(path, 2),
        spec,
        locate=lambda feeds: first_difference(encoder, path, feeds, 2),
    )
    assert not report.passed
    assert report.first_difference == "layers.1.norm"
    assert len(report.failures) > 1  # all are collected before anything is raised
    with pytest.raises(ParityError, match=r"differs from torch in \d+ of 12 cases, most at .* begins at layers.1.norm"):
        report.raise_if_failed()


def test_no_difference_is_located_where_there_is_none(
    encoder: nn.Module, spec: ModelSpec, artefact: OnnxArtefact
) -> None:
    assert first_difference(encoder, artefact.path, synthetic_inputs(spec, Shape(2, 5)), 2) is None


class Changed(TorchRunner):
    """A real run whose outputs are then changed, to see each kind of failure."""

    def __init__(self, module: nn.Module, spec: ModelSpec, change: Any) -> None:
        super().__init__(module, spec)
        self.change = change

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        outputs: dict[str, Array] = self.change({k: v.copy() for k, v in super()._run(feeds).items()})
        return outputs


def put(outputs: dict[str, Array], value: float) -> dict[str, Array]:
    outputs["logits"][0, 0] = value
    return outputs


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda o: {"scores": o["logits"]}, "its outputs are scores, not logits"),
        (lambda o: {"logits": o["logits"][:, :2]}, "logits has the shape (1, 2), not (1, 3)"),
        (lambda o: put(o, o["logits"][0, 0] + 1), "logits is off by 1.0"),
        (lambda o: put(o, float("nan")), "logits is off by nan"),
        (lambda o: put(o, float("inf")), "logits is off by inf"),
    ],
)
def test_names_then_shapes_then_values(encoder: nn.Module, spec: ModelSpec, change: Any, problem: str) -> None:
    report = check_parity(TorchRunner(encoder, spec), Changed(encoder, spec, change), spec, [Shape(1, 1)])
    assert problem in str(report.worst.problem)
    assert len(report.failures) == 6
    json.loads(report.model_dump_json())  # NaN and infinity are not JSON


def test_the_worst_case_is_the_largest_error_for_its_tolerance(encoder: nn.Module, spec: ModelSpec) -> None:
    def off(outputs: dict[str, Array]) -> dict[str, Array]:
        outputs["logits"] += 1e-6 * len(outputs["logits"])
        return outputs

    module = copy.deepcopy(encoder)
    report = check_parity(TorchRunner(encoder, spec), Changed(module, spec, off), spec, [Shape(1, 3), Shape(5, 3)])
    assert report.worst.shape == "5x3"
    assert report.worst.max_abs_error == pytest.approx(5e-6, rel=0.1)
    assert report.worst.tolerance is not None
    assert report.worst.tolerance > FLOAT32_TOLERANCE.absolute
