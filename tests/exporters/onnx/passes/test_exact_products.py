"""int8 products are exact on every x86-64 processor, whatever kernels ONNX Runtime chooses for it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from processors.harness import Processor, run_on
from project_root import ROOT
from tiny_models import WORDS

from exporters.onnx.export import exported_graph
from exporters.onnx.passes.editing import constant_of, input_of
from exporters.onnx.passes.int8 import CPU, MatmulError, quantize_matmuls, saturation_free_scales
from exporters.onnx.write import write_variant
from exporters.runners.base import Array
from exporters.variant import Precision, Runtime, Variant
from kprune_export.model_export import model_spec
from pruning import ServingModule, load_checkpoint
from pruning.calibration.examples import Example

SCRIPT = ROOT / "tests/processors/run_probed.py"
EVERYWHERE = pytest.mark.parametrize("processor", list(Processor))


def products(model: ir.Model) -> list[tuple[ir.Node, ir.Node, ir.Node]]:
    """Return the quantized multiplications with the DequantizeLinear nodes of their inputs."""
    found = []
    for node in model.graph:
        left, right = (x.producer() if x is not None else None for x in (*node.inputs, None, None)[:2])
        if node.op_type == "MatMul" and left is not None and right is not None and right.op_type == "DequantizeLinear":
            found.append((node, left, right))
    return found


def check_exactness(model: ir.Model, feeds: dict[str, Array], processor: Processor, folder: Path) -> None:
    """Compare each quantized product, as a processor computes it, with integer arithmetic in NumPy."""
    probed = model.clone()
    made = products(probed)
    assert made
    for node, left, _ in made:
        for value in (input_of(left, 0), node.outputs[0]):
            if not value.is_graph_output():
                probed.graph.outputs.append(value)
    ir.save(probed, folder / "probed.onnx")
    np.savez(folder / "inputs.npz", **feeds)
    outputs = folder / "outputs.npz"
    ran = Counter(run_on(processor, SCRIPT, folder / "probed.onnx", folder / "inputs.npz", outputs).split())
    assert ran["MatMulIntegerToFloat"] == len(made)  # so that the integer kernels are what is tested
    found = np.load(outputs)
    for node, left, right in made:
        narrow = found[input_of(left, 0).name].astype(np.int64)
        scale, zero = (constant_of(left.inputs[i]) for i in (1, 2))
        weight, scales = (constant_of(right.inputs[i]) for i in (0, 1))
        integers = (narrow - int(zero)) @ weight.astype(np.int64)
        expected = integers * (float(scale) * scales.astype(np.float64))
        actual = found[node.outputs[0].name]
        assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()


@EVERYWHERE
def test_a_shipped_graph(processor: Processor, make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = load_checkpoint(make_checkpoint(num_hidden_layers=2))
    spec = model_spec(checkpoint, {})
    texts = [Example(" ".join(WORDS[i : i + 12]), None) for i in range(16)]
    feeds = [{x: batch.inputs[x].numpy() for x in checkpoint.inputs} for batch in checkpoint.batches(texts)]
    variant = Variant(Runtime.ONNXRUNTIME, Precision.INT8)
    base = exported_graph(ServingModule(checkpoint).eval(), spec)
    record = write_variant(base, spec, variant, tmp_path, feeds, 1)
    model = ir.load(tmp_path / record.file.name)
    for _, _, right in products(model):
        weight = constant_of(right.inputs[0]).astype(int)
        even, odd = np.abs(weight[0::2]), np.abs(weight[1::2])
        assert (even[: len(odd)] + odd).max() <= 128
    check_exactness(model, feeds[0], processor, tmp_path)


@EVERYWHERE
@pytest.mark.parametrize("rows", [1, 6])
def test_the_largest_products_that_there_are(
    rows: int, processor: Processor, graph_of: Any, numbers: Any, tmp_path: Path
) -> None:
    """Activations at 255 and weights at their bound, of both signs and however a pair shares it."""
    weight = numbers(35, 19)
    weight[0::2, 0], weight[1::2, 0] = 64, 63
    weight[0::2, 1], weight[1::2, 1] = -127, 0
    weight[0::2, 2], weight[1::2, 2] = -64, -63
    weight[:, 3] = 63.5  # halves, which rounding makes 64 and 64
    assert np.rint(weight[:, 3] / saturation_free_scales(weight)[0, 3]).tolist() == [64] * 35
    x = np.full((1, rows, 35), 2.0, np.float32)
    model = graph_of("one (float[B,S,35] x) => (float[B,S,19] y) { y = MatMul(x, w) }", w=weight)
    error = MatmulError(node="MatMul_0", weight="w", input_low=0, input_high=2, relative_error=0, quantized=True)
    quantize_matmuls(model, [error], CPU)
    check_exactness(model, {"x": x}, processor, tmp_path)
