"""Models in processes of their own: the same answers and reports as in one process, and nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from torch import nn

from exporters.errors import MeasurementError, RunnerError
from exporters.inputs import synthetic_inputs
from exporters.machine.description import describe_machine
from exporters.onnx.export import onnx_from_torch
from exporters.onnx.file import OnnxArtefact
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
from exporters.spec import ModelSpec, Shape
from exporters.timing.isolation import PLACE, IsolatedRunner, IsolatedTimer
from exporters.timing.isolation.rest import running_threads, wait_for_rest
from exporters.timing.latency import Measured, TimingSettings, measure_latency
from exporters.timing.timers import HostClock

QUICK = TimingSettings(warmup_s=0.02, seconds=0.1, min_blocks=5, block_s=0.02)
SHAPE = Shape(2, 8)


def isolated(path: Path) -> IsolatedRunner:
    return IsolatedRunner(partial(OnnxRuntimeRunner, path, 2, timed=True), 2)


@pytest.fixture(scope="module")
def deep(
    make_encoder: Callable[..., nn.Module], spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory
) -> OnnxArtefact:
    """Ten times the layers of the other."""
    return onnx_from_torch(
        make_encoder(20), replace(spec, attention_layers=20), tmp_path_factory.mktemp("deep") / "model.onnx"
    )


def test_it_answers_as_in_this_process(artefact: OnnxArtefact, spec: ModelSpec) -> None:
    feeds = synthetic_inputs(spec, SHAPE)
    with OnnxRuntimeRunner(artefact.path, 2) as here, isolated(artefact.path) as there:
        assert (there.name, there.inputs, there.outputs) == (here.name, here.inputs, here.outputs)
        np.testing.assert_allclose(there.run(feeds)["logits"], here.run(feeds)["logits"], rtol=1e-6)
        with pytest.raises(RunnerError, match="takes the inputs"):
            there.prepare({})
    assert not psutil.pid_exists(there.process_id)


def test_pairs_are_timed_as_in_one_process(artefact: OnnxArtefact, deep: OnnxArtefact, spec: ModelSpec) -> None:
    subject = Measured(dense_bytes=2, pruned_bytes=1, threads=2, machine=describe_machine())
    with isolated(deep.path) as dense, isolated(artefact.path) as pruned, isolated(deep.path) as again:
        assert len({os.getpid(), *(runner.process_id for runner in (dense, pruned, again))}) == 4
        report = measure_latency(
            dense, pruned, spec, [SHAPE], subject, PLACE, QUICK, timer=IsolatedTimer(HostClock()), again=again
        )
    with OnnxRuntimeRunner(deep.path, 2) as one, OnnxRuntimeRunner(artefact.path, 2) as other:
        together = measure_latency(one, other, spec, [SHAPE], subject, "in one process", QUICK, again=one)
    (shape,) = report.shapes
    assert shape.speedup > 2  # of ten times the layers
    assert shape.speedup_low <= shape.speedup <= shape.speedup_high
    assert min(shape.dense.samples_ms) > min(shape.pruned.samples_ms) > 0
    assert shape.noise is not None
    assert 0.2 < shape.noise.ratio < 5
    assert report.runtime == together.runtime
    assert report.method == together.method.replace("in one process", PLACE)
    assert _keys(report.model_dump()) == _keys(together.model_dump())


def _keys(value: object) -> object:
    return {key: _keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None


def test_one_at_a_time_is_awake(artefact: OnnxArtefact, spec: ModelSpec) -> None:
    """A model's threads spin after a block, and sleep once the other's turn begins, as the kernel says of them."""
    feeds = synthetic_inputs(spec, Shape(16, 64))
    with isolated(artefact.path) as one, isolated(artefact.path) as other:
        timer = IsolatedTimer(HostClock())
        for runner in (one, other):
            timer.prepare(runner, feeds)
        spun = []
        for runner, idle in ((one, other), (other, one)) * 5:
            assert len(timer.block(runner, feeds, 7).seconds) == 7
            spun.append("R" in _states(runner.process_id))
            assert "R" not in _states(idle.process_id)
        assert any(spun)  # or there would be nothing to wait for


def _states(process: int) -> set[str]:
    """Return the states of a process's threads but the first, which goes back to waiting for requests."""
    tasks = [task for task in Path(f"/proc/{process}/task").iterdir() if task.name != str(process)]
    return {(task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] for task in tasks}


def test_threads_that_spin_are_seen() -> None:
    done = threading.Event()

    def spin() -> None:
        while not done.is_set():
            pass

    thread = threading.Thread(target=spin, name="a name) R with brackets")
    thread.start()
    try:
        assert running_threads() >= 1
        with pytest.raises(MeasurementError, match="still ran 0 s after its last call"):
            wait_for_rest(0.05)
    finally:
        done.set()
        thread.join()


def test_a_process_that_is_killed(artefact: OnnxArtefact, spec: ModelSpec) -> None:
    with isolated(artefact.path) as runner:
        runner.prepare(synthetic_inputs(spec, SHAPE))
        killer = threading.Timer(0.3, os.kill, (runner.process_id, signal.SIGKILL))
        killer.start()
        with pytest.raises(RunnerError, match=r"^The process that timed onnxruntime \(CPU\) was killed by SIGKILL"):
            runner.block(10_000_000, wake=False)
        with pytest.raises(RunnerError, match="run the command again"):
            runner.rest()


def test_what_goes_wrong_while_opening(tmp_path: Path) -> None:
    before = psutil.Process().children()  # such as multiprocessing's resource tracker, where another test started it
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(RunnerError, match=r"^ONNX Runtime cannot load .*model\.onnx"):
        isolated(tmp_path / "model.onnx")
    with pytest.raises(RunnerError, match=r"ended with exit code 1 \(its last output: TypeError: .*path"):
        IsolatedRunner(OnnxRuntimeRunner, 2)  # a bug: it lacks the path
    assert psutil.Process().children() == before


def test_runners_of_this_process_are_refused(artefact: OnnxArtefact, spec: ModelSpec) -> None:
    with OnnxRuntimeRunner(artefact.path, 2) as here, pytest.raises(MeasurementError, match="not in a process of its"):
        IsolatedTimer(HostClock()).prepare(here, synthetic_inputs(spec, SHAPE))


STARTER = """
import sys
from functools import partial
from pathlib import Path
from exporters.inputs import synthetic_inputs
from exporters.timing.isolation import IsolatedRunner
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
import numpy as np
runner = IsolatedRunner(partial(OnnxRuntimeRunner, Path(sys.argv[1]), 2), 2)
runner.prepare({spec.name: np.zeros((2, 8), np.int64) for spec in runner.inputs})
print(runner.process_id, flush=True)
runner.block(10_000_000, wake=False)
"""


def test_nothing_outlives_a_killed_starter(artefact: OnnxArtefact) -> None:
    """Killed in the midst of a block, so that it cannot clean up after itself."""
    command = [sys.executable, "-c", STARTER, str(artefact.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as starter:
        assert starter.stdout is not None
        worker = psutil.Process(int(starter.stdout.readline()))
        time.sleep(0.2)
        assert worker.is_running()
        starter.kill()
        starter.wait()
    _, alive = psutil.wait_procs([worker], timeout=30)
    assert not alive or worker.status() == psutil.STATUS_ZOMBIE  # where nothing reaps orphans
