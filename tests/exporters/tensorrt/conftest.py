"""The small encoder of the tests above as a graph in each precision."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn

from exporters.inputs import synthetic_inputs
from exporters.onnx.export import onnx_from_torch
from exporters.onnx.file import OnnxArtefact
from exporters.spec import ModelSpec, Shape
from exporters.tensorrt import EngineArtefact, EngineSettings, engine_from_onnx
from exporters.variant import Precision


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, spec: ModelSpec) -> None:
        self.batches: Iterator[Any] = iter([synthetic_inputs(spec, Shape(2, 16), seed=seed) for seed in range(3)])

    def get_next(self) -> Any:
        return next(self.batches, None)


@pytest.fixture(scope="session")
def graphs(
    artefact: OnnxArtefact,
    make_encoder: Callable[..., nn.Module],
    spec: ModelSpec,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[Precision, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    fp16 = onnx_from_torch(make_encoder(2).half(), spec, folder / "fp16.onnx").path
    bf16 = onnx_from_torch(make_encoder(2).bfloat16(), spec, folder / "bf16.onnx").path
    quantize_static(
        artefact.path,
        folder / "int8.onnx",
        Calibration(spec),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul"],
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )
    return {
        Precision.FP32: artefact.path,
        Precision.FP16: fp16,
        Precision.BF16: bf16,
        Precision.INT8: folder / "int8.onnx",
    }


@dataclass(frozen=True)
class Bench:
    """Builds engines of the fp32 graph, or another, in a folder of the test's own."""

    graph: Path
    spec: ModelSpec
    folder: Path

    def build(self, graph: Path | None = None, precision: str = "fp32", **settings: Any) -> EngineArtefact:
        return engine_from_onnx(
            graph or self.graph, self.spec, Precision(precision), self.folder, settings=EngineSettings(**settings)
        )


@pytest.fixture
def bench(tensorrt: None, artefact: OnnxArtefact, spec: ModelSpec, tmp_path: Path) -> Bench:
    return Bench(artefact.path, spec, tmp_path)
