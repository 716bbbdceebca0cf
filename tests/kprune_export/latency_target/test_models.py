"""The dense model at any widths: cut out of two exports, the same graph as an export of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from tiny_models import TINY_FAMILIES

from exporters.errors import ExportError
from exporters.inputs import synthetic_inputs
from exporters.onnx.export import exported_graph
from exporters.onnx.passes.widths import UniformWidths, WidthTemplate
from exporters.spec import Shape
from exporters.variant import Precision, Runtime, Variant
from kprune_export.latency_target.timed_models import OnnxModels, TorchModels
from kprune_export.model_export import model_spec
from pruning import ServingModule, load_checkpoint


def exported(folder: Path, heads: int, neurons: int) -> ir.Model:
    checkpoint = load_checkpoint(folder)
    checkpoint.open().keep_first([(heads, neurons)] * checkpoint.open().shape.layers)
    return exported_graph(ServingModule(checkpoint), model_spec(checkpoint, {}))


def described(model: ir.Model) -> list[tuple[Any, ...]]:
    """Return what decides how long a graph takes: its nodes, their attributes, and the sizes of its constants."""

    def constant(value: ir.Value | None) -> Any:
        if value is None or value.const_value is None:
            return None
        numbers = value.const_value.numpy()
        return numbers.shape, numbers.dtype, numbers.tolist() if numbers.dtype.kind == "i" else None

    return [
        (
            node.op_type,
            tuple(constant(value) for value in node.inputs),
            tuple(sorted((name, str(attribute.value)) for name, attribute in node.attributes.items())),
            tuple(tuple(x for x in output.shape or () if isinstance(x, int)) for output in node.outputs),
        )
        for node in model.graph
    ]


ALIKE = {"camembert": "roberta", "xlm-roberta": "roberta", "electra": "bert"}
"""Families whose layers are implemented as another one's are, so that their graphs differ in the embeddings only."""


@pytest.mark.parametrize("family", sorted(set(TINY_FAMILIES) - set(ALIKE)))
def test_every_family_is_cut_as_it_is_exported(family: str, make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint(family=family)
    full, less = UniformWidths(4, 48), UniformWidths(3, 47)
    dense = exported(folder, 4, 48)
    template = WidthTemplate(dense, full, exported(folder, 3, 47), less)
    assert described(template.at(full)) == described(dense)
    assert described(template.at(UniformWidths(2, 16))) == described(exported(folder, 2, 16))


def test_graphs_that_differ_in_more_are_refused(make_checkpoint: Callable[..., Path]) -> None:
    folder, full = make_checkpoint(), UniformWidths(4, 48)
    dense = exported(folder, 4, 48)
    with pytest.raises(ExportError, match="have other nodes"):
        WidthTemplate(dense, full, exported(folder, 4, 0), UniformWidths(3, 47))
    template = WidthTemplate(dense, full, exported(folder, 3, 47), UniformWidths(2, 40))  # it has 3 and 47
    with pytest.raises(ExportError, match="a multiple of no width"):
        template.at(UniformWidths(2, 16))


WIDTHS = [[(4, 48), (4, 48)], [(2, 16), (2, 16)], [(1, 16), (1, 16)], [(0, 0), (0, 0)], [(3, 0), (0, 7)]]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_models_of_any_widths_run(precision: str, classifier: Path) -> None:
    def dense() -> Any:
        return load_checkpoint(classifier)

    spec = model_spec(dense(), {})
    feeds = synthetic_inputs(spec, Shape(3, 9))
    models = OnnxModels(dense, Variant(Runtime.ONNXRUNTIME, Precision(precision)), 1, (feeds,))
    for widths in WIDTHS:
        if precision == "int8" and not any(map(any, widths)):
            with pytest.raises(ExportError, match="no multiplication by a weight is left"):
                models.open(widths).__enter__()
            continue
        with models.open(widths) as runner:
            (output,) = runner.run(feeds).values()
            assert output.shape == (3, 2)
    in_torch = TorchModels(dense, Precision.FP32, torch.device("cpu"))
    with in_torch.open(WIDTHS[0]) as runner, models.open(WIDTHS[0]) as other:
        difference = abs(runner.run(feeds)["logits"] - other.run(feeds)["logits"]).max()
        assert difference < (1e-5 if precision == "fp32" else 0.2)


def test_keeping_the_first_units_is_what_masking_the_others_is(classifier: Path) -> None:
    # with all output projections' other columns zero, the dense model is the cut one
    cut, masked = load_checkpoint(classifier), load_checkpoint(classifier)
    cut.open().keep_first([(2, 16), (4, 48)])
    for sublayer, units in zip(masked.open().sublayers, (2, 16, 4, 48), strict=True):
        sublayer.projection.weight.data[:, units * sublayer.unit_size :] = 0
    spec = model_spec(masked, {})
    feeds = {name: torch.from_numpy(x) for name, x in synthetic_inputs(spec, Shape(2, 7)).items()}
    assert torch.allclose(ServingModule(cut)(**feeds), ServingModule(masked)(**feeds), atol=1e-6)
