"""The TensorRT runner: its decisions and its use of the real bindings here, engines where there is a GPU."""

import ast
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporters.errors import MissingRuntimeError, RunnerError
from exporters.inputs import synthetic_inputs
from exporters.onnx_export import onnx_from_torch
from exporters.parity import check_parity
from exporters.runners import tensorrt_runner
from exporters.runners.profiles import EngineProfile, choose_profile
from exporters.runners.tensorrt_runner import TensorRTRunner
from exporters.runners.torch_runner import TorchRunner
from exporters.spec import ModelSpec, Shape

ROOT = Path(__file__).parents[2]
HARNESS = Path(os.environ.get("KPRUNE_TENSORRT_ON_CPU", ROOT / ".venv" / "tensorrt-on-cpu"))
PROFILES = (
    EngineProfile(0, Shape(1, 1), Shape(8, 128), Shape(32, 512)),
    EngineProfile(1, Shape(1, 1), Shape(1, 128), Shape(1, 128)),
    EngineProfile(2, Shape(2, 16), Shape(8, 128), Shape(8, 128)),
    EngineProfile(3, Shape(1, 1), Shape(1, 64), Shape(1, 128)),
)


@pytest.mark.parametrize(
    ("shape", "index"),
    [("1x1", 1), ("1x128", 1), ("1x129", 0), ("2x16", 2), ("2x15", 0), ("8x128", 2), ("9x128", 0), ("32x512", 0)],
)
def test_the_smallest_profile_that_holds_a_shape(shape: str, index: int) -> None:
    assert choose_profile(PROFILES, Shape.parse(shape)).index == index


@pytest.mark.parametrize("shape", ["33x1", "1x513"])
def test_a_shape_outside_every_profile(shape: str) -> None:
    with pytest.raises(
        RunnerError, match=rf"The shape {shape} is outside every .* \(0: 1x1 to 32x512; 1: 1x1 to 1x128"
    ):
        choose_profile(PROFILES, Shape.parse(shape))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(MissingRuntimeError, match="A TensorRT engine needs an NVIDIA GPU, but torch .* finds none"):
        TensorRTRunner(tmp_path / "model.plan", ModuleType("tensorrt"))


def with_bindings(script: str, *arguments: object) -> Any:
    """Run a script on the real bindings, which need no GPU to be looked at, and return the JSON that it prints."""
    if not HARNESS.is_dir():
        pytest.skip(f"needs TensorRT's bindings ({HARNESS} is not there; KPRUNE_TENSORRT_ON_CPU can name it)")
    paths = {"PYTHONPATH": f"{ROOT}:{HARNESS}", "LD_LIBRARY_PATH": f"{HARNESS / 'lib'}"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | paths, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


RECEIVERS = {
    "trt": "",
    "engine": "ICudaEngine",
    "self._engine": "ICudaEngine",
    "runtime": "Runtime",
    "context": "IExecutionContext",
}
"""What the runner's variables hold, as names in the module."""

CHECK = """
import json, re, sys
import tensorrt as trt

def resolve(dotted):
    found = trt
    for name in dotted.split("."):
        if not hasattr(found, name):
            return None
        found = getattr(found, name)
    return found

def parameters(text):
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([<") - (letter in ")]>")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]

def takes(function, count):
    doc = (function.__init__ if isinstance(function, type) else function).__doc__ or ""
    for signature in re.findall(r"^(?:\\d+\\. )?\\w+\\((self.*)\\) ->", doc, re.MULTILINE):
        own = parameters(signature)[1:]
        if sum("=" not in part for part in own) <= count <= len(own):
            return True
    return False

problems = []
for dotted, count in json.loads(sys.argv[1]):
    found = resolve(dotted)
    if found is None:
        problems.append(f"{dotted} is not there")
    elif count is not None and not takes(found, count):
        problems.append(f"{dotted} does not take {count} arguments")
kinds = sorted(trt.DataType.__members__)
print(json.dumps([problems, kinds]))
"""


def uses_of_tensorrt() -> dict[str, int | None]:
    """Return what of the module the runner uses, dotted, and with how many arguments it calls it."""
    tree = ast.parse(Path(tensorrt_runner.__file__).read_text(encoding="utf-8"))
    called = {id(node.func): len(node.args) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    uses: dict[str, int | None] = {"DataType.FLOAT.name": None}  # what `get_tensor_dtype(…).name` reads
    for node in ast.walk(tree):
        dotted = ast.unparse(node) if isinstance(node, ast.Attribute) else "("
        if "(" in dotted:
            continue
        for receiver, kind in RECEIVERS.items():
            if dotted.startswith(f"{receiver}."):
                name = ".".join(filter(None, (kind, dotted.removeprefix(f"{receiver}."))))
                uses[name] = called.get(id(node), uses.get(name))
    return {name: count for name, count in uses.items() if name not in {"__name__", "ILogger.__init__"}}


def test_all_that_the_runner_uses_is_in_the_bindings() -> None:
    uses = uses_of_tensorrt()
    assert {
        "Runtime": 1,
        "Runtime.deserialize_cuda_engine": 1,
        "ICudaEngine.create_execution_context": 0,
        "ICudaEngine.get_tensor_profile_shape": 2,
        "ICudaEngine.num_optimization_profiles": None,
        "IExecutionContext.set_input_shape": 2,
        "IExecutionContext.set_tensor_address": 2,
        "IExecutionContext.set_optimization_profile_async": 2,
        "IExecutionContext.execute_async_v3": 1,
    }.items() <= uses.items()
    problems, kinds = with_bindings(CHECK, json.dumps(list(uses.items())))
    assert problems == []
    assert set(tensorrt_runner.DTYPES) <= set(kinds)


def test_the_check_of_the_bindings_finds_what_is_wrong() -> None:
    wrong = [("IExecutionContext.execute_v9", 1), ("IExecutionContext.execute_async_v3", 2), ("Runtime", 3)]
    problems, _ = with_bindings(CHECK, json.dumps(wrong))
    assert problems == [
        "IExecutionContext.execute_v9 is not there",
        "IExecutionContext.execute_async_v3 does not take 2 arguments",
        "Runtime does not take 3 arguments",
    ]


READ = """
import json, sys
from pathlib import Path
import tensorrt as trt
from exporters.errors import RunnerError
from exporters.runners.tensorrt_runner import error_log, read_engine

log = error_log(trt)
said = []
for path in sys.argv[1:]:
    try:
        read_engine(trt.Runtime(log), log, Path(path))
    except RunnerError as error:
        said.append(str(error))
print(json.dumps([said, log.errors, log.take()]))
"""


def test_a_file_that_is_no_engine_is_refused_in_tensorrts_words(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"no engine at all" * 64)
    (wrong, missing), left, silence = with_bindings(READ, plan, tmp_path / "none.plan")
    assert wrong.startswith(f"TensorRT cannot load {plan}: ")
    assert "magicTag" in wrong  # the first of its errors, which says why
    assert wrong.endswith("If another TensorRT or another GPU made it, build it again here.")
    assert missing == f"The engine {tmp_path / 'none.plan'} cannot be read: No such file or directory."
    assert (left, silence) == ([], "TensorRT did not say why.")


def plain_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor) -> Tensor:
    """What `scaled_dot_product_attention` computes, spelled out: TensorRT fuses no float32 attention."""
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    return torch.softmax(scores.masked_fill(~attn_mask, -1e4), -1) @ value


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_an_engine_on_a_gpu(
    cuda_graphs: bool,
    make_encoder: Callable[..., nn.Module],
    spec: ModelSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trt = pytest.importorskip("tensorrt", reason="needs TensorRT: pip install 'kprune-export[tensorrt]'")
    encoder = make_encoder(2)
    monkeypatch.setattr(F, "scaled_dot_product_attention", plain_attention)
    artefact = onnx_from_torch(encoder, replace(spec, attention_layers=0), tmp_path / "model.onnx")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse_from_file(str(artefact.path))
    config = builder.create_builder_config()
    for limits in (((1, 1), (1, 16), (1, 64)), ((1, 1), (8, 64), (8, 64))):
        profile = builder.create_optimization_profile()
        for name in spec.inputs:
            profile.set_shape(name, *limits)
        config.add_optimization_profile(profile)
    config.clear_flag(trt.BuilderFlag.TF32)
    plan = tmp_path / "model.plan"
    plan.write_bytes(builder.build_serialized_network(network, config))
    with TensorRTRunner(plan, trt, cuda_graphs) as runner:
        assert [str(profile) for profile in runner.profiles] == ["0: 1x1 to 1x64", "1: 1x1 to 8x64"]
        for _ in range(2):  # the second time from recorded graphs, where there are graphs
            report = check_parity(TorchRunner(encoder, spec), runner, spec)
            report.raise_if_failed()
        with pytest.raises(RunnerError, match="The shape 9x64 is outside every profile"):
            runner.run(synthetic_inputs(spec, Shape(9, 64)))
