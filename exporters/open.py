"""Opening of a variant: in its own runtime where available, else in ONNX Runtime on the CPU, which is recorded."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

from exporters.onnx.passes.bfloat16_emulation import emulate_bfloat16
from exporters.openvino.ir import GRAPH_SUFFIX
from exporters.processes.scratch import scratch_folder
from exporters.runners.availability import runs_here
from exporters.runners.base import Runner
from exporters.runners.onnxruntime_bound import BoundOnnxRuntimeRunner
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
from exporters.runners.openvino_runner import OpenVinoRunner
from exporters.runners.tensorrt_runner import TensorRTRunner
from exporters.tensorrt.build import PLAN_SUFFIX
from exporters.timing.gpu_timer import DeviceEvents
from exporters.timing.timers import HostClock, Timer
from exporters.variant import Precision, Runtime, Variant


def timer_of(variant: Variant) -> Timer:
    """Return how a variant is timed: the host's clock, or a GPU's events."""
    return HostClock() if variant.runtime.on_cpu else DeviceEvents()


@contextlib.contextmanager
def open_variant(
    variant: Variant, graphs: Path, engines: Path | None, threads: int, *, timed: bool = False
) -> Iterator[Runner]:
    """Open a variant in its own runtime, or its graph on the CPU where that runtime is not here.

    On the CPU a bf16 graph is run with float32 operators whose results are rounded to bf16, and an int8 graph of
    another runtime node by node, without the CPU's own integer kernels. The runner's name says that the graph was run
    and not the engine.

    Args:
        variant: which.
        graphs: the folder with the ONNX files.
        engines: the folder with the engines, where the variant has one.
        threads: how many ONNX Runtime or OpenVINO uses on the CPU.
        timed: whether it is opened to be timed.

    Raises:
        MissingRuntimeError: the runtime cannot start.
        RunnerError: the file cannot be loaded.

    """
    path = graphs / variant.file_name
    if not runs_here(variant.runtime):
        with _on_cpu(variant, path, threads) as runner:
            runner.name = f"the graph of {variant} in {runner.name}"
            yield runner
        return
    if variant.runtime is Runtime.TENSORRT and engines is not None:
        opened: Runner = TensorRTRunner(engines / f"{variant.stem}{PLAN_SUFFIX}")
    elif variant.runtime is Runtime.ONNXRUNTIME_CUDA:
        opened = BoundOnnxRuntimeRunner(path, threads, timed=timed)
    elif variant.runtime is Runtime.OPENVINO:
        opened = OpenVinoRunner(path.with_suffix(GRAPH_SUFFIX), variant.precision, threads)
    else:
        opened = OnnxRuntimeRunner(path, threads, timed=timed)
    with opened as runner:
        yield runner


@contextlib.contextmanager
def _on_cpu(variant: Variant, path: Path, threads: int) -> Iterator[Runner]:
    if variant.precision is not Precision.BF16:
        with OnnxRuntimeRunner(path, threads, fuse_quantized=variant.precision is not Precision.INT8) as runner:
            yield runner
        return
    with scratch_folder() as folder:
        model = ir.load(path)
        emulate_bfloat16(model)
        emulated = folder / "emulated.onnx"
        ir.save(model, emulated, external_data="emulated.data")
        with OnnxRuntimeRunner(emulated, threads) as runner:
            runner.name = f"{runner.name} with every result rounded to bf16"
            yield runner
