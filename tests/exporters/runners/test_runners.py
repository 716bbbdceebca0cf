import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from exporters.errors import MissingRuntimeError, RunnerError
from exporters.inputs import synthetic_inputs
from exporters.onnx.file import OnnxArtefact
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
from exporters.runners.torch_runner import TorchRunner
from exporters.spec import ModelSpec, Shape


@pytest.fixture(params=["torch", "onnxruntime"])
def runner(request: pytest.FixtureRequest, encoder: nn.Module, spec: ModelSpec, artefact: OnnxArtefact) -> object:
    return TorchRunner(encoder, spec) if request.param == "torch" else OnnxRuntimeRunner(artefact.path, 2)


def test_runs(runner: TorchRunner, spec: ModelSpec) -> None:
    with runner as opened:
        output = opened.run(synthetic_inputs(spec, Shape(3, 5)))
    assert list(output) == ["logits"]
    assert output["logits"].shape == (3, 3)
    assert [x.name for x in runner.outputs] == ["logits"] if isinstance(runner, TorchRunner) else True


def test_feeds_are_checked_in_the_same_words(runner: TorchRunner, spec: ModelSpec) -> None:
    good = synthetic_inputs(spec, Shape(2, 4))
    without = {name: array for name, array in good.items() if name != "attention_mask"}
    with pytest.raises(RunnerError, match="takes the inputs attention_mask, input_ids, token_type_ids, but was given"):
        runner.run(without)
    with pytest.raises(RunnerError, match="input_ids must be int64, but is int32"):
        runner.run(good | {"input_ids": good["input_ids"].astype(np.int32)})
    with pytest.raises(RunnerError, match=r"input_ids must have the shape \('batch', 'sequence'\), but has \(2,\)"):
        runner.run(good | {"input_ids": good["input_ids"][:, 0]})
    with pytest.raises(RunnerError, match="attention_mask has 3 on axis sequence, but 4 is needed"):
        runner.run(good | {"attention_mask": good["attention_mask"][:, :3]})


def test_a_runtime_that_is_not_there(artefact: OnnxArtefact) -> None:
    with pytest.raises(MissingRuntimeError, match="has no CoreMLExecutionProvider here: it has .*CPU"):
        OnnxRuntimeRunner(artefact.path, 2, "CoreMLExecutionProvider")


def test_a_provider_that_cannot_start_is_not_replaced(artefact: OnnxArtefact) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("needs a machine without a CUDA device")
    with pytest.raises((MissingRuntimeError, RunnerError)):
        OnnxRuntimeRunner(artefact.path, 2, "CUDAExecutionProvider")


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(RunnerError, match=r"cannot load .*model\.onnx"):
        OnnxRuntimeRunner(tmp_path / "model.onnx", 2)


def test_the_pool_cannot_change_its_size(artefact: OnnxArtefact) -> None:
    """In a process of its own, which every session to be timed there then belongs to."""
    code = f"""
from pathlib import Path
from exporters.errors import RunnerError
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner, pool_description, share_thread_pool
share_thread_pool(2)
OnnxRuntimeRunner(Path({str(artefact.path)!r}), 2, timed=True)
print(pool_description())
try:
    share_thread_pool(3)
except RunnerError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == [
        "a shared thread pool",
        "ONNX Runtime already runs with 2 threads in this process and cannot change to 3.",
    ]


def test_threads_spin_only_once_something_is_timed(artefact: OnnxArtefact) -> None:
    """In a process of its own: the processors' time that it uses while nothing is asked of it, after some calls."""
    code = f"""
import time
from pathlib import Path
import numpy as np
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner, share_thread_pool
share_thread_pool(2)
for timed in (False, False, True, True):
    with OnnxRuntimeRunner(Path({str(artefact.path)!r}), 2, timed=timed) as runner:
        feeds = {{x.name: np.full((16, 64), x.name == "attention_mask", x.dtype) for x in runner.inputs}}
        used = 0.0
        for _ in range(20):
            runner.run(feeds)
            before = time.process_time()
            time.sleep(0.03)
            used += time.process_time() - before
    print(used)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    one, another, *timed = (float(line) for line in done.stdout.splitlines())
    assert max(one, another) < min(timed) / 2
