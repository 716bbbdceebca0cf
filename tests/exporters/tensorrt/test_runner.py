"""Running engines: what is decided and checked before a GPU is needed, and engines where there is one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorrt_harness import with_bindings
from tensorrt_uses import CHECK, uses_of_bindings
from torch import nn

from exporters.errors import EngineError, MissingRuntimeError, ShapeError
from exporters.inputs import synthetic_inputs
from exporters.parity.check import FLOAT32_TOLERANCE, Tolerance, check_parity
from exporters.runners import tensorrt_runner
from exporters.runners.tensorrt_runner import TensorRTRunner, open_plan
from exporters.runners.torch_runner import TorchRunner
from exporters.spec import ModelSpec, Shape
from exporters.tensorrt import OptimizationProfile
from exporters.tensorrt.bindings import load_bindings
from exporters.tensorrt.log import BuilderLog
from exporters.tensorrt.profiles import choose_profile
from exporters.trtexec import TrtexecModel
from exporters.variant import Precision

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
PROFILES = tuple(
    OptimizationProfile.parse(text)
    for text in (
        "min=1x1,opt=8x128,max=32x512",
        "min=1x1,opt=1x128,max=1x128",
        "min=2x16,opt=8x128,max=8x128",
        "min=1x1,opt=1x64,max=1x128",
    )
)
TWO = (OptimizationProfile.parse("min=1x1,opt=1x16,max=1x64"), OptimizationProfile.parse("min=1x1,opt=8x64,max=8x64"))


@pytest.mark.parametrize(
    ("shape", "index"),
    [("1x1", 1), ("1x128", 1), ("1x129", 0), ("2x16", 2), ("2x15", 0), ("8x128", 2), ("9x128", 0), ("32x512", 0)],
)
def test_the_smallest_profile_that_holds_a_shape(shape: str, index: int) -> None:
    assert choose_profile(PROFILES, Shape.parse(shape)) == index


@pytest.mark.parametrize("shape", ["33x1", "1x513"])
def test_a_shape_outside_every_profile(shape: str) -> None:
    with pytest.raises(ShapeError, match=rf"The shape {shape} is outside every .* \(min=1x1,opt=8x128,max=32x512; min"):
        choose_profile(PROFILES, Shape.parse(shape))


@without_gpu
def test_without_a_gpu(tensorrt: None, bench: Any) -> None:
    plan = bench.build().plan
    with pytest.raises(MissingRuntimeError, match="A TensorRT engine needs an NVIDIA GPU, but torch .* finds none"):
        TensorRTRunner(plan)


def test_what_does_not_belong_together_is_not_opened(tensorrt: None, bench: Any) -> None:
    made = bench.build()
    plan = made.plan.read_bytes()
    made.plan.write_bytes(plan[:-1] + bytes([plan[-1] ^ 1]))
    with pytest.raises(EngineError, match="is not the plan that its record describes"):
        TensorRTRunner(made.plan)
    made.plan.write_bytes(plan)
    made.record_path.unlink()
    with pytest.raises(EngineError, match="is missing: an engine is loaded only with the record of its build"):
        TensorRTRunner(made.plan)


def test_a_plan_is_refused_in_tensorrts_words(tensorrt: None, bench: Any) -> None:
    made = bench.build()
    made.plan.write_bytes(b"no engine at all" * 64)
    trt, log = load_bindings().module, BuilderLog()
    logger = log.logger(trt)
    with pytest.raises(EngineError, match="TensorRT cannot load .*magicTag.* build it again here") as caught:
        open_plan(trt, log, logger, made.plan, made.record)
    assert "\n" not in str(caught.value)
    stripped = made.record.model_copy(update={"builder_flags": ("STRIP_PLAN",)})
    with pytest.raises(EngineError, match="was built without its weights"):
        open_plan(trt, log, logger, made.plan, stripped)


RECEIVERS = {
    "trt": "",
    "engine": "ICudaEngine",
    "self._engine": "ICudaEngine",
    "runtime": "Runtime",
    "context": "IExecutionContext",
}
"""What the runner's variables hold, as names in the module."""


@pytest.mark.parametrize("major", [10, 11])
def test_all_that_the_runner_uses_is_in_the_bindings(major: int) -> None:
    uses = uses_of_bindings([Path(tensorrt_runner.__file__)], RECEIVERS)
    assert uses == {
        "Runtime": 1,
        "Runtime.engine_host_code_allowed": None,
        "Runtime.deserialize_cuda_engine": 1,
        "ICudaEngine.create_execution_context": 0,
        "IExecutionContext.set_input_shape": 2,
        "IExecutionContext.set_tensor_address": 2,
        "IExecutionContext.get_tensor_shape": 1,
        "IExecutionContext.set_optimization_profile_async": 2,
        "IExecutionContext.execute_async_v3": 1,
    }
    version, problems = with_bindings(major, CHECK, json.dumps(list(uses.items())))
    assert version.startswith(f"{major}.")
    assert problems == []


def test_the_check_of_the_bindings_finds_what_is_wrong() -> None:
    wrong = [("IExecutionContext.execute_v9", 1), ("IExecutionContext.execute_async_v3", 2), ("Runtime", 3)]
    _, problems = with_bindings(11, CHECK, json.dumps(wrong))
    assert problems == [
        "IExecutionContext.execute_v9 is not there",
        "IExecutionContext.execute_async_v3 does not take 2 arguments",
        "Runtime does not take 3 arguments",
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [
        (Precision.FP32, FLOAT32_TOLERANCE),
        (Precision.FP16, Tolerance(absolute=1e-3, relative=1e-2)),  # 2⁻¹¹, ten operations deep, with room
        (Precision.BF16, Tolerance(absolute=1e-2, relative=5e-2)),  # 2⁻⁸, likewise
    ],
)
def test_an_engine_on_a_gpu(
    precision: Precision,
    tolerance: Tolerance,
    cuda_graphs: bool,
    tensorrt: None,
    bench: Any,
    graphs: dict[Precision, Path],
    encoder: nn.Module,
    spec: ModelSpec,
) -> None:
    made = bench.build(graphs[precision], precision, profiles=TWO)
    with TensorRTRunner(made.plan, cuda_graphs) as runner:
        for _ in range(2):  # the second time from recorded graphs, where there are graphs
            check_parity(TorchRunner(encoder, spec), runner, spec, tolerance=tolerance).raise_if_failed()
        with pytest.raises(ShapeError, match="The shape 9x64 is outside every profile"):
            runner.run(synthetic_inputs(spec, Shape(9, 64)))


def test_trtexecs_model_is_the_records(tensorrt: None, bench: Any) -> None:
    made = bench.build(profiles=TWO)
    model = TrtexecModel.of_engine(made.plan, made.record)
    assert model == TrtexecModel(made.plan, ("input_ids", "attention_mask", "token_type_ids"), TWO, 11)
    with pytest.raises(EngineError, match="is an engine of tensorrt_rtx, which trtexec does not run"):
        TrtexecModel.of_engine(made.plan, made.record.model_copy(update={"bindings": "tensorrt_rtx"}))
