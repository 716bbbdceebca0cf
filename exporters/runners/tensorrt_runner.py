"""Running an engine of TensorRT or TensorRT-RTX.

https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Core/ExecutionContext.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exporters.errors import EngineError, RunnerError, first_line
from exporters.runners.device import DeviceRunner, cuda_device
from exporters.spec import Shape, TensorSpec
from exporters.tensorrt.bindings import load_bindings
from exporters.tensorrt.build import RECORD_SUFFIX
from exporters.tensorrt.engine_record import EngineMachine, EngineRecord, check_machine, check_plan
from exporters.tensorrt.log import BuilderLog
from exporters.tensorrt.profiles import choose_profile


@dataclass
class _Execution:
    """An execution context, what it was last prepared for, and its CUDA graph where it has one."""

    context: Any
    profile: int | None = None
    bound: tuple[tuple[int, ...], ...] = ()
    results: dict[str, Tensor] = field(default_factory=dict)
    graph: Any = None


class TensorRTRunner(DeviceRunner):
    """An engine on the current CUDA device, as its record describes it.

    A call runs in the smallest optimization profile that holds its shape.

    Args:
        path: the plan; its record lies beside it.
        cuda_graphs: record each shape's work once and play it back, which spares the host the launches. A shape
            then keeps an execution context and memory of its own, so it is for programs that run few shapes.

    Raises:
        MissingRuntimeError: torch finds no GPU, or the TensorRT that built the engine is not installed.
        EngineError: the plan or its record is missing or was changed, or does not belong to this TensorRT and GPU.

    """

    def __init__(self, path: Path, cuda_graphs: bool = False) -> None:
        self._record = EngineRecord.read(path.with_suffix(RECORD_SUFFIX))
        check_plan(self._record, path)
        bindings = load_bindings(self._record.bindings)
        super().__init__(cuda_device("A TensorRT engine"), fixed_addresses=cuda_graphs)
        check_machine(self._record, EngineMachine.here(bindings))
        self.name = str(bindings)
        self._profiles = self._record.optimization_profiles
        self._graphs = cuda_graphs
        self._log = BuilderLog()
        self._logger = self._log.logger(bindings.module)
        self._heard = 0
        self._runtime, self._engine = open_plan(bindings.module, self._log, self._logger, path, self._record)
        self._executions: dict[Shape | None, _Execution] = {}
        self._current: _Execution | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The engine's inputs."""
        return self._record.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The engine's outputs."""
        return self._record.outputs

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
        shape = Shape(*inputs[self.inputs[0].name].shape)
        profile = choose_profile(self._profiles, shape)
        key = shape if self._graphs else None
        if key not in self._executions:
            context = self._engine.create_execution_context()
            self._must(context, "create an execution context")
            self._executions[key] = _Execution(context)
        execution = self._current = self._executions[key]
        bound = tuple((*inputs[spec.name].shape, inputs[spec.name].data_ptr()) for spec in self.inputs)
        if execution.bound == bound:
            return  # with a CUDA graph the context must stay as it was when the graph was recorded
        context = execution.context
        if execution.profile != profile:
            chosen = context.set_optimization_profile_async(profile, self._handle)
            self._must(chosen, f"choose the profile {profile}")
            execution.profile = profile
        for name, tensor in inputs.items():
            self._must(
                context.set_input_shape(name, tuple(tensor.shape)), f"take {name} of shape {tuple(tensor.shape)}"
            )
            self._must(context.set_tensor_address(name, tensor.data_ptr()), f"take {name}'s address")
        for spec in self.outputs:
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
        """Raise what TensorRT logged, where it says by a False or a None that something failed."""
        if outcome is None or outcome is False:
            reasons = "; ".join(self._log.errors(self._heard)) or "TensorRT does not say why"
            raise RunnerError(f"{self.name} could not {action}: {reasons}.")
        self._heard = len(self._log.entries)


def open_plan(trt: Any, log: BuilderLog, logger: Any, path: Path, record: EngineRecord) -> tuple[Any, Any]:
    """Load a plan that was checked against its record.

    Args:
        trt: the bindings' module.
        log: what TensorRT says.
        logger: what the log has TensorRT say it to.
        path: the plan.
        record: its record.

    Returns:
        The runtime, which has to outlive the engine, and the engine.

    Raises:
        EngineError: TensorRT refuses the plan, or it has no weights.

    """
    if "STRIP_PLAN" in record.builder_flags:
        raise EngineError(
            f"{path} was built without its weights, so it computes nothing: refit it, or build it with them."
        )
    runtime = trt.Runtime(logger)
    if "VERSION_COMPATIBLE" in record.builder_flags:
        runtime.engine_host_code_allowed = True  # such a plan brings the code that runs it
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise EngineError(
            f"TensorRT cannot load {path}: {'; '.join(log.errors())}: if another TensorRT or another GPU made it, "
            "build it again here."
        )
    return runtime, engine
