"""Running an ONNX model in ONNX Runtime."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporters.errors import MissingRuntimeError, RunnerError, first_line
from exporters.machine.cpu_quota import usable_cpus
from exporters.runners.base import Array, Feeds, Runner
from exporters.spec import TensorSpec

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
INDEX_OPERATORS = frozenset(
    {"Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Floor"}
    | {"Gather", "GatherElements", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "Max", "Min"}
    | {"Mod", "Mul", "Neg", "Not", "Or", "Range", "ReduceProd", "Reshape", "Shape", "Sign", "Size", "Slice", "Squeeze"}
    | {"Sub", "Tile", "Transpose", "Unsqueeze", "Where"}
)
"""What a graph computes shapes, positions and masks with.

Providers of GPUs leave what follows from shapes to the CPU on purpose. What carries the work is not among them:
products, attention, norms, softmax, activations, quantization.
"""
RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"
DISABLE_QDQ_FUSION = "session.disable_quant_qdq"
"""https://onnxruntime.ai/docs/api/c/onnxruntime__session__options__config__keys_8h.html"""
_QUIET = 3  # errors only
_pool_threads: int | None = None
"""How many threads the shared pool has, or will have; None where sessions share none."""
_pool_is_made = False


def share_thread_pool(threads: int) -> None:
    """Make all ONNX Runtime sessions of this process that are opened to be timed share one pool of threads.

    Its threads spin for some tens of milliseconds after a call, to be quick at the next, as they do where the model is
    deployed. Sessions with spinning pools of their own would take the processors from each other; with a shared pool
    each of several sessions is as fast as if it were alone. For programs that own their process: the size cannot
    change later.

    The pool is made when the first session to be timed is opened. From then on ONNX Runtime lets no session of the
    process have threads of its own, so that those that are not timed share it too.

    Raises:
        RunnerError: the pool is there already, with another number of threads.

    """
    global _pool_threads
    if _pool_threads is None:
        _pool_threads = threads
    elif _pool_threads != threads:
        raise RunnerError(
            f"ONNX Runtime already runs with {_pool_threads} threads in this process and cannot change to {threads}."
        )


def pool_description() -> str:
    """Say in words which threads runners that are timed in this process use."""
    return "own thread pools that do not spin" if _pool_threads is None else "a shared thread pool"


class OnnxRuntimeRunner(Runner):
    """An ONNX Runtime session with default graph optimisations.

    It has a pool of its own whose threads do not spin, which costs a little speed but leaves the processors to others.
    One that is timed uses the shared pool, where `share_thread_pool` was called, and so do all that are opened later.

    Args:
        path: the ONNX file.
        threads: threads for one operator; as many as the process may use unless given.
        provider: the execution provider that must run the graph; nothing else takes its place.
        fuse_quantized: whether quantized products run on the provider's integer kernels. Otherwise each node computes
            what the ONNX standard says of it, in float32, so that the graph is checked and not the kernels.
        timed: whether it is opened to be timed.

    Raises:
        MissingRuntimeError: the provider is not in this build, cannot start here, or would leave work to the CPU.
        RunnerError: the file cannot be loaded, or gives bfloat16, which `InferenceSession.run` cannot return.

    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        provider: str = CPU_PROVIDER,
        *,
        timed: bool = False,
        fuse_quantized: bool = True,
    ) -> None:
        options = session_options(threads or usable_cpus(), timed=timed)
        if not fuse_quantized:
            options.add_session_config_entry(DISABLE_QDQ_FUSION, "1")
        self._session: Any = open_session(path, options, provider)
        self.name = f"onnxruntime ({provider.removesuffix('ExecutionProvider')})"
        self._output_names = [output.name for output in self._session.get_outputs()]
        brain = [spec.name for spec in self.outputs if spec.dtype == "bfloat16"]
        if brain:
            raise RunnerError(
                f"{path} gives {', '.join(brain)} in bfloat16, which ONNX Runtime returns only through I/O binding: "
                "use the bound runner."
            )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs."""
        return tuple(tensor_spec(x) for x in self._session.get_inputs())

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs."""
        return tuple(tensor_spec(x) for x in self._session.get_outputs())

    def close(self) -> None:
        """Drop the session."""
        self._session = None

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        try:
            values = self._session.run(self._output_names, dict(feeds))
        except Exception as error:  # as above
            raise RunnerError(f"{self.name} failed: {first_line(error)}") from error
        return dict(zip(self._output_names, values, strict=True))


def session_options(threads: int, *, timed: bool = False) -> Any:
    """Return options for a session that does not disturb others: see `OnnxRuntimeRunner`.

    https://onnxruntime.ai/docs/performance/tune-performance/threading.html

    Args:
        threads: threads for one operator.
        timed: whether the session is to be timed.

    Raises:
        RunnerError: the shared pool has another number of threads.

    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    global _pool_is_made
    if _pool_threads is not None and (timed or _pool_is_made):
        share_thread_pool(threads)
        if not _pool_is_made:
            onnxruntime.set_global_thread_pool_sizes(threads, 1)
            _pool_is_made = True
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(path: Path, options: Any, provider: str, provider_options: Mapping[str, str] | None = None) -> Any:
    """Return a session that one provider runs, and nothing else in its place.

    ONNX Runtime goes over to the CPU where a provider does not start, and for each node that it has no kernel for.
    Here the first is refused, and the second for all but `INDEX_OPERATORS`. The CUDA provider's TF32 is off unless
    the options ask for it: float32 matrices would be multiplied with 10 bits of mantissa.

    Raises:
        MissingRuntimeError: the provider is not in this build, cannot start here, or would leave work to the CPU.
        RunnerError: the file cannot be loaded.

    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise MissingRuntimeError(
            f"ONNX Runtime {onnxruntime.__version__} has no {provider} here: it has {', '.join(available)}."
        )
    chosen = ({"use_tf32": "0"} if provider == CUDA_PROVIDER else {}) | dict(provider_options or {})
    if provider != CPU_PROVIDER:
        options.add_session_config_entry(RECORD_PLACEMENT, "1")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=[(provider, chosen)], enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        if provider != CPU_PROVIDER and isinstance(error, RuntimeError | ValueError):  # these are from the provider
            reason = re.sub(r"^/\S+:\d+ .*\) (?=[A-Z])", "", first_line(error))  # without the place in its source
            raise MissingRuntimeError(f"ONNX Runtime could not start {provider} on this machine: {reason}") from error
        raise RunnerError(f"ONNX Runtime cannot load {path}: {first_line(error)}") from error
    if provider not in session.get_providers():
        raise MissingRuntimeError(
            f"ONNX Runtime could not start {provider} on this machine: it needs a GPU and the libraries that "
            "https://onnxruntime.ai/docs/execution-providers names."
        )
    left = frozenset() if provider == CPU_PROVIDER else operators_on_cpu(session) - INDEX_OPERATORS
    if left:
        raise MissingRuntimeError(
            f"{provider} has no kernels for {', '.join(sorted(left))} in {path}, and ONNX Runtime would run them on "
            "the CPU: export the model for this provider."
        )
    return session


def operators_on_cpu(session: Any) -> frozenset[str]:
    """Return the kinds of nodes that a session, made with `RECORD_PLACEMENT`, runs on the CPU provider.

    https://onnxruntime.ai/docs/api/python/api_summary.html (get_provider_graph_assignment_info)

    Raises:
        MissingRuntimeError: this ONNX Runtime does not report it.

    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        raise MissingRuntimeError(
            "This ONNX Runtime does not report which provider runs a node, so work left to the CPU would go unseen: "
            "install a newer onnxruntime-gpu."
        )
    return frozenset(
        node.op_type
        for subgraph in session.get_provider_graph_assignment_info()
        if subgraph.ep_name == CPU_PROVIDER
        for node in subgraph.get_nodes()
    )


def tensor_spec(value: Any) -> TensorSpec:
    """Return an input or output of a session as runners describe it.

    Raises:
        RunnerError: it has a type that no runner handles.

    """
    if value.type not in _DTYPES:
        raise RunnerError(f"The ONNX value {value.name} has the type {value.type}, which no runner handles.")
    return TensorSpec(value.name, _DTYPES[value.type], tuple(value.shape))
