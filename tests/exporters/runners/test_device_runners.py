"""Runners on a device: on the CPU everywhere, on a GPU where there is one."""

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from exporters.errors import MissingRuntimeError, RunnerError
from exporters.inputs import Padding, synthetic_inputs
from exporters.onnx.file import OnnxArtefact
from exporters.parity.check import check_parity
from exporters.runners.device import DeviceBuffers
from exporters.runners.onnxruntime_bound import BoundOnnxRuntimeRunner
from exporters.runners.onnxruntime_runner import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    INDEX_OPERATORS,
    RECORD_PLACEMENT,
    TENSORRT_PROVIDER,
    OnnxRuntimeRunner,
    operators_on_cpu,
)
from exporters.runners.torch_runner import TorchDeviceRunner, TorchRunner
from exporters.spec import ModelSpec, Shape

CPU = torch.device("cpu")
without_a_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")


def cast_model(path: Path, kind: int, axis: str = "sequence") -> Path:
    """Write a graph that casts input_ids, (batch, sequence), to another type."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["input_ids"], ["wide"], to=kind)],
        "cast",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("wide", kind, ["batch", axis])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_bound_outputs_are_those_of_torch(artefact: OnnxArtefact, encoder: nn.Module, spec: ModelSpec) -> None:
    """At shapes that grow and shrink, on memory that is used again."""
    with BoundOnnxRuntimeRunner(artefact.path, 1, CPU_PROVIDER) as bound:
        report = check_parity(TorchRunner(encoder, spec), bound, spec, [Shape(8, 64), Shape(1, 1), Shape(3, 17)])
    assert report.passed
    assert report.candidate == "onnxruntime (CPU, bound)"
    on_device = TorchDeviceRunner(encoder, spec, CPU)
    assert check_parity(TorchRunner(encoder, spec), on_device, spec).worst.max_abs_error == 0


def test_outputs_do_not_change_under_the_next_run(artefact: OnnxArtefact, spec: ModelSpec) -> None:
    first, second = (synthetic_inputs(spec, Shape(2, 8), seed=seed) for seed in (1, 2))
    with BoundOnnxRuntimeRunner(artefact.path, 1, CPU_PROVIDER) as bound:
        before = bound.run(first)["logits"]
        kept = before.copy()
        assert not np.array_equal(bound.run(second)["logits"], kept)
    assert np.array_equal(before, kept)


@pytest.mark.parametrize(
    ("kind", "dtype"), [(TensorProto.BFLOAT16, ml_dtypes.bfloat16), (TensorProto.FLOAT16, np.float16)]
)
def test_sixteen_bits_stay_sixteen_bits(kind: int, dtype: type, tmp_path: Path) -> None:
    feeds = {"input_ids": np.array([[1, 2, 257], [-3, 0, 1000]])}
    with BoundOnnxRuntimeRunner(cast_model(tmp_path / "m.onnx", kind), 1, CPU_PROVIDER) as bound:
        wide = bound.run(feeds)["wide"]
        assert bound.outputs[0].dtype == np.dtype(dtype).name
    assert wide.dtype == dtype
    assert np.array_equal(wide.astype(np.float64), feeds["input_ids"].astype(dtype).astype(np.float64))
    bfloat16 = dtype is ml_dtypes.bfloat16
    assert wide.astype(np.float64)[0, 2] == (256 if bfloat16 else 257)  # of 8 bits of mantissa, and of 11


def test_brain_floats_need_the_bound_runner(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="gives wide in bfloat16, which .* only through I/O binding"):
        OnnxRuntimeRunner(cast_model(tmp_path / "m.onnx", TensorProto.BFLOAT16), 1)


def test_an_output_of_unknown_size(tmp_path: Path) -> None:
    bound = BoundOnnxRuntimeRunner(cast_model(tmp_path / "m.onnx", TensorProto.FLOAT, "words"), 1, CPU_PROVIDER)
    with pytest.raises(RunnerError, match="the output wide has the axis words, which no input has"):
        bound.run({"input_ids": np.ones((1, 2), np.int64)})


def test_what_torch_says_of_a_device_is_a_runners_error(spec: ModelSpec) -> None:
    def broken(**_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore follows.")

    with pytest.raises(RunnerError, match=r"^torch \(cpu\) failed on cpu: CUDA out of memory. Tried .* 2 GiB.$"):
        TorchDeviceRunner(broken, spec, CPU).run(synthetic_inputs(spec, Shape(1, 2)))


def test_device_memory_is_used_again() -> None:
    shared, fixed = DeviceBuffers(CPU), DeviceBuffers(CPU, fixed=True)
    wide = shared.on_device("x", torch.int64, (4, 8))
    assert shared.on_device("x", torch.int64, (2, 3)).data_ptr() == wide.data_ptr()
    assert shared.on_host("x", torch.int64, (2, 3)).data_ptr() != shared.on_device("y", torch.int64, (2, 3)).data_ptr()
    grown = shared.on_device("x", torch.int64, (16, 8))
    assert (grown.shape, grown.dtype) == ((16, 8), torch.int64)
    kept = fixed.on_device("x", torch.float32, (4, 8))
    assert fixed.on_device("x", torch.float32, (16, 8)).data_ptr() != kept.data_ptr()
    assert fixed.on_device("x", torch.float32, (4, 8)).data_ptr() == kept.data_ptr()
    assert shared.on_device("empty", torch.float32, (0, 8)).shape == (0, 8)


def test_work_on_the_cpu_is_seen(artefact: OnnxArtefact) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(RECORD_PLACEMENT, "1")
    session = onnxruntime.InferenceSession(artefact.path, options, providers=[CPU_PROVIDER])
    found = operators_on_cpu(session)
    assert {"Attention", "MatMul", "LayerNormalization"} <= found - INDEX_OPERATORS
    assert {"Shape", "Concat", "Reshape"} <= found & INDEX_OPERATORS


@without_a_gpu
@pytest.mark.parametrize("provider", [CUDA_PROVIDER, TENSORRT_PROVIDER])
def test_providers_are_not_replaced_by_the_cpu(
    provider: str, artefact: OnnxArtefact, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MissingRuntimeError, match=f"could not start {provider} on this machine: [A-Zi]"):
        OnnxRuntimeRunner(artefact.path, 1, provider)
    assert not capfd.readouterr().out  # onnxruntime announces its fallback on stdout
    with pytest.raises(MissingRuntimeError, match=f"{provider} needs an NVIDIA GPU, but torch .* finds none"):
        BoundOnnxRuntimeRunner(artefact.path, 1, provider)


@pytest.mark.gpu
def test_cuda_provider_on_a_gpu(artefact: OnnxArtefact, encoder: nn.Module, spec: ModelSpec) -> None:
    with BoundOnnxRuntimeRunner(artefact.path) as bound:
        report = check_parity(TorchRunner(encoder, spec), bound, spec)
    report.raise_if_failed()


@pytest.mark.gpu
def test_torch_on_a_gpu(encoder: nn.Module, spec: ModelSpec) -> None:
    import copy

    device = torch.device("cuda", 0)
    on_gpu = TorchDeviceRunner(copy.deepcopy(encoder).to(device), spec, device)
    check_parity(TorchRunner(encoder, spec), on_gpu, spec).raise_if_failed()
    half = TorchDeviceRunner(copy.deepcopy(encoder).to(device, torch.bfloat16), replace(spec), device)
    feeds = synthetic_inputs(spec, Shape(3, 17), Padding.RIGHT)
    rough, exact = half.run(feeds)["logits"], on_gpu.run(feeds)["logits"]
    assert rough.dtype == ml_dtypes.bfloat16
    assert np.abs(rough.astype(np.float64) - exact).max() < 0.05 * np.abs(exact).max()
