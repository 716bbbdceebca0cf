"""Running a TensorRT engine, TensorRT 10 and 11 and TensorRT-RTX alike.

https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Core/ExecutionContext.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from exporters.errors import RunnerError
from exporters.runners.base import first_line
from exporters.runners.device import DeviceRunner, cuda_device
from exporters.runners.profiles import EngineProfile, choose_profile
from exporters.spec import BATCH, SEQUENCE, Shape, TensorSpec

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}
"""TensorRT's names of the types that inputs and outputs may have."""


@dataclass
class _Execution:
    """An execution context, what it was last prepared for, and its CUDA graph where it has one."""

    context: Any
    profile: int | None = None
    bound: tuple[tuple[int, ...], ...] = ()
    results: dict[str, Tensor] = field(default_factory=dict)
    graph: Any = None


class TensorRTRunner(DeviceRunner):
    """An engine on the current CUDA device.

    A call runs in the smallest optimization profile that holds its shape.

    Args:
        path: the engine's file.
        trt: the bindings: the module ``tensorrt`` or ``tensorrt_rtx``.
        cuda_graphs: record each shape's work once and play it back, which spares the host the launches. A shape
            then keeps an execution context and memory of its own, so it is for programs that run few shapes.

    Raises:
        MissingRuntimeError: torch finds no GPU.
        RunnerError: the file is no engine of this TensorRT and this GPU, or has inputs that are not (batch, sequence).

    """

    def __init__(self, path: Path, trt: ModuleType, cuda_graphs: bool = False) -> None:
        super().__init__(cuda_device("A TensorRT engine"), fixed_addresses=cuda_graphs)
        self.name = f"{trt.__name__} {trt.__version__}"
        self._graphs = cuda_graphs
        self._log = error_log(trt)
        self._runtime: Any = trt.Runtime(self._log)
        self._engine: Any = read_engine(self._runtime, self._log, path)
        self._inputs, self._outputs = tensors_of(trt, self._engine)
        self._profiles = profiles_of(self._engine, self._inputs[0].name)
        self._executions: dict[Shape | None, _Execution] = {}
        self._current: _Execution | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The engine's inputs."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The engine's outputs."""
        return self._outputs

    @property
    def profiles(self) -> tuple[EngineProfile, ...]:
        """The engine's optimization profiles."""
        return self._profiles

    def close(self) -> None:
        """Free the contexts, the engine and the memory, in the order that they depend on each other."""
        self.synchronize()
        self._current = None
        self._executions.clear()
        self._buffers.clear()
        self._engine = None
        self._runtime = None

    def enqueue(self) -> None:
        """Start one run, by the shape's CUDA graph where the runner has them."""
        execution = self._prepared()
        if self._graphs and execution.graph is None:
            execution.graph = self._captured(execution.context)
        if execution.graph is None:
            self._launch(execution.context)
            return
        with self.on_stream():
            execution.graph.replay()

    def _bind(self, inputs: Mapping[str, Tensor]) -> None:
        shape = Shape(*inputs[self._inputs[0].name].shape)
        profile = choose_profile(self._profiles, shape)
        key = shape if self._graphs else None
        if key not in self._executions:
            context = self._engine.create_execution_context()
            self._must(context, "create an execution context")
            self._executions[key] = _Execution(context)
        execution = self._current = self._executions[key]
        bound = tuple((*inputs[spec.name].shape, inputs[spec.name].data_ptr()) for spec in self._inputs)
        if execution.bound == bound:
            return  # with a CUDA graph the context must stay as it was when the graph was recorded
        context = execution.context
        if execution.profile != profile.index:
            chosen = context.set_optimization_profile_async(profile.index, self._handle)
            self._must(chosen, f"choose the profile {profile}")
            execution.profile = profile.index
        for name, tensor in inputs.items():
            self._must(
                context.set_input_shape(name, tuple(tensor.shape)), f"take {name} of shape {tuple(tensor.shape)}"
            )
            self._must(context.set_tensor_address(name, tensor.data_ptr()), f"take {name}'s address")
        for spec in self._outputs:
            dtype = getattr(torch, spec.dtype)
            tensor = self._buffers.on_device(spec.name, dtype, tuple(context.get_tensor_shape(spec.name)))
            self._must(context.set_tensor_address(spec.name, tensor.data_ptr()), f"take {spec.name}'s address")
            execution.results[spec.name] = tensor
        execution.bound = bound

    def _results(self) -> Mapping[str, Tensor]:
        return self._prepared().results

    @property
    def _handle(self) -> int:
        if self.stream is None:
            raise RunnerError(f"{self.name} has no CUDA stream.")
        return int(self.stream.cuda_stream)

    def _prepared(self) -> _Execution:
        if self._current is None:
            raise RunnerError(f"{self.name} was asked to run before inputs were loaded.")
        return self._current

    def _launch(self, context: Any) -> None:
        self._must(context.execute_async_v3(self._handle), "run the engine")

    def _captured(self, context: Any) -> torch.cuda.CUDAGraph:
        """Record a run; one that is not recorded goes first, as TensorRT sets itself up in a shape's first run."""
        self._launch(context)
        self.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                self._launch(context)
        except RuntimeError as error:
            raise RunnerError(
                f"{self.name} cannot record this engine as a CUDA graph ({first_line(error)}): run it without."
            ) from error
        return graph

    def _must(self, outcome: Any, action: str) -> None:
        if outcome is None or outcome is False:
            raise RunnerError(f"{self.name} could not {action}: {self._log.take()}")


def error_log(trt: ModuleType) -> Any:
    """Return a TensorRT logger that keeps errors until `take` returns them, as TensorRT itself raises nothing."""

    class ErrorLog(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(" ".join(msg.split()))

        def take(self) -> str:
            said, self.errors = self.errors, []
            return " ".join(said) or "TensorRT did not say why."

    return ErrorLog()


def read_engine(runtime: Any, log: Any, path: Path) -> Any:
    """Load an engine.

    Args:
        runtime: TensorRT's runtime.
        log: what `error_log` made, and the runtime has.
        path: the engine's file.

    Raises:
        RunnerError: the file cannot be read, or is no engine of this TensorRT and this GPU.

    """
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise RunnerError(f"The engine {path} cannot be read: {error.strerror}.") from error
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise RunnerError(
            f"TensorRT cannot load {path}: {log.take()} "
            "If another TensorRT or another GPU made it, build it again here."
        )
    return engine


def tensors_of(trt: ModuleType, engine: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return an engine's inputs and outputs; its dynamic axes are the batch and, second, the sequence.

    Raises:
        RunnerError: one has a type or axes that the runner does not handle.

    """
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for number in range(engine.num_io_tensors):
        name = engine.get_tensor_name(number)
        kind = engine.get_tensor_dtype(name).name
        sizes = tuple(engine.get_tensor_shape(name))
        taken = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        if kind not in DTYPES or -1 in sizes[2:] or (taken and len(sizes) != 2):
            raise RunnerError(
                f"The engine's {name} is {kind} of shape {sizes}, which the runner does not handle: "
                "inputs are (batch, sequence), and outputs have no other dynamic axes."
            )
        names = (BATCH, SEQUENCE, *sizes[2:])
        shape = tuple(axis if size == -1 else size for axis, size in zip(names, sizes, strict=False))
        (inputs if taken else outputs).append(TensorSpec(name, DTYPES[kind], shape))
    return tuple(inputs), tuple(outputs)


def profiles_of(engine: Any, name: str) -> tuple[EngineProfile, ...]:
    """Return an engine's optimization profiles, as one of its inputs, (batch, sequence), has them."""
    shapes = [engine.get_tensor_profile_shape(name, index) for index in range(engine.num_optimization_profiles)]
    return tuple(EngineProfile(index, *(Shape(*dims) for dims in limits)) for index, limits in enumerate(shapes))
