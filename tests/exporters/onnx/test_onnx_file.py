from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from exporters.errors import ExportError
from exporters.inputs import synthetic_inputs
from exporters.onnx.file import write_onnx
from exporters.parity.check import check_parity
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
from exporters.runners.torch_runner import TorchRunner
from exporters.spec import Shape


def test_a_large_model_keeps_its_weights_beside_it(artefact: Any, encoder: Any, spec: Any, tmp_path: Path) -> None:
    """The limit is lowered to what the small encoder is above."""
    whole = write_onnx(ir.load(artefact.path), tmp_path / "whole.onnx")
    assert (whole.external_data, whole.external_sha256) == (None, None)
    split = write_onnx(ir.load(artefact.path), tmp_path / "split.onnx", largest_bytes=4096)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["split.onnx", "split.onnx.data", "whole.onnx"]
    assert split.external_data == "split.onnx.data"
    assert split.size_bytes == sum((tmp_path / x).stat().st_size for x in ("split.onnx", "split.onnx.data"))
    assert split.path.stat().st_size < whole.size_bytes / 2
    assert split.bytes_by_type == whole.bytes_by_type
    with OnnxRuntimeRunner(split.path, 2) as runner:
        check_parity(TorchRunner(encoder, spec), runner, spec).raise_if_failed()
        feeds = synthetic_inputs(spec, Shape(2, 5))
        found = runner.run(feeds)["logits"]
    with OnnxRuntimeRunner(whole.path, 2) as runner:
        np.testing.assert_array_equal(runner.run(feeds)["logits"], found)


def test_the_same_graph_gives_the_same_bytes(artefact: Any, tmp_path: Path) -> None:
    made = [write_onnx(ir.load(artefact.path), tmp_path / f"{x}.onnx", largest_bytes=4096) for x in "ab"]
    assert made[0].external_sha256 == made[1].external_sha256
    assert write_onnx(ir.load(artefact.path), tmp_path / "c.onnx").sha256 == artefact.sha256


def test_what_is_not_onnx_is_refused(artefact: Any, tmp_path: Path) -> None:
    model = onnx.load(artefact.path)
    next(node for node in model.graph.node if node.op_type == "MatMul").op_type = "MatMulTwice"
    with pytest.raises(ExportError, match="The exported graph is not valid ONNX: .*MatMulTwice"):
        write_onnx(ir.from_proto(model), tmp_path / "broken.onnx")
