"""Running an ONNX model in ONNX Runtime."""

import os
from pathlib import Path
from typing import Any

from exporters.errors import MissingRuntimeError, RunnerError
from exporters.runners.base import Array, Feeds, Runner
from exporters.spec import TensorSpec

CPU_PROVIDER = "CPUExecutionProvider"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
}
_QUIET = 3  # errors only
_pool_threads: int | None = None


def share_thread_pool(threads: int) -> None:
    """Make all ONNX Runtime sessions of this process share one pool of threads.

    Sessions with pools of their own disturb each other: an idle session's threads spin for a while and
    take the cores from the session that is being timed. With a shared pool each of several sessions is
    as fast as if it were alone. For programs that own their process: the size cannot change later, and
    every other session made in the process has to set ``use_per_session_threads`` to false.

    Raises:
        RunnerError: the pool is there already, with another number of threads.

    """
    import onnxruntime

    global _pool_threads
    if _pool_threads is None:
        onnxruntime.set_global_thread_pool_sizes(threads, 1)
        _pool_threads = threads
    elif _pool_threads != threads:
        raise RunnerError(
            f"ONNX Runtime already runs with {_pool_threads} threads in this process and cannot change to {threads}."
        )


def pool_description() -> str:
    """Say in words which threads the runners of this process use."""
    return "own thread pools that do not spin" if _pool_threads is None else "a shared thread pool"


class OnnxRuntimeRunner(Runner):
    """An ONNX Runtime session with default graph optimisations.

    It uses the shared pool, where `share_thread_pool` has made one. Otherwise it has a pool of its own whose
    threads do not spin, which costs a little speed but disturbs no other session.

    Args:
        path: the ONNX file.
        threads: threads for one operator; as many as the process may use unless given.
        provider: the execution provider that must run the graph; nothing else takes its place.

    Raises:
        MissingRuntimeError: the provider is not in this build, or cannot start here.
        RunnerError: the file cannot be loaded.

    """

    def __init__(self, path: Path, threads: int | None = None, provider: str = CPU_PROVIDER) -> None:
        import onnxruntime

        if provider not in onnxruntime.get_available_providers():
            raise MissingRuntimeError(
                f"ONNX Runtime {onnxruntime.__version__} has no {provider} here: "
                f"it has {', '.join(onnxruntime.get_available_providers())}."
            )
        options = session_options(threads or len(os.sched_getaffinity(0)))
        try:
            self._session: Any = onnxruntime.InferenceSession(path, options, providers=[provider])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise RunnerError(f"ONNX Runtime cannot load {path}: {_first_line(error)}") from error
        if provider not in self._session.get_providers():
            raise MissingRuntimeError(f"ONNX Runtime could not start {provider} on this machine.")
        self.name = f"onnxruntime ({provider.removesuffix('ExecutionProvider')})"
        self._output_names = [output.name for output in self._session.get_outputs()]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs."""
        return tuple(_tensor_spec(x) for x in self._session.get_inputs())

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs."""
        return tuple(_tensor_spec(x) for x in self._session.get_outputs())

    def close(self) -> None:
        """Drop the session."""
        self._session = None

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        try:
            values = self._session.run(self._output_names, dict(feeds))
        except Exception as error:  # as above
            raise RunnerError(f"{self.name} failed: {_first_line(error)}") from error
        return dict(zip(self._output_names, values, strict=True))


def session_options(threads: int) -> Any:
    """Return options for a session that does not disturb others: see `OnnxRuntimeRunner`.

    Raises:
        RunnerError: the shared pool has another number of threads.

    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    if _pool_threads is None:
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    else:
        share_thread_pool(threads)
        options.use_per_session_threads = False
    return options


def _tensor_spec(value: Any) -> TensorSpec:
    if value.type not in _DTYPES:
        raise RunnerError(f"The ONNX value {value.name} has the type {value.type}, which no runner handles.")
    return TensorSpec(value.name, _DTYPES[value.type], tuple(value.shape))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
