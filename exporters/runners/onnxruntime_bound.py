"""Running an ONNX model in ONNX Runtime with its inputs and outputs in the device's own memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exporters.errors import RunnerError, first_line
from exporters.machine.cpu_quota import usable_cpus
from exporters.runners.device import CPU, DeviceRunner, cuda_device
from exporters.runners.onnxruntime_runner import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    open_session,
    session_options,
    tensor_spec,
)
from exporters.spec import TensorSpec

_UNSYNCHRONIZED = "disable_synchronize_execution_providers"


class BoundOnnxRuntimeRunner(DeviceRunner):
    """An ONNX Runtime session with I/O binding, on a CUDA stream that it shares with torch.

    https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html (user_compute_stream)

    On the TensorRT provider the engine is built when a shape is first run; whether it has TF32 is TensorRT's choice.

    Args:
        path: the ONNX file.
        threads: threads for one operator on the CPU; as many as the process may use unless given.
        provider: the execution provider that must run the graph; nothing else takes its place.
        provider_options: more of its options, which win over those set here.
        timed: whether it is opened to be timed, which decides the CPU's threads as in `OnnxRuntimeRunner`.

    Raises:
        MissingRuntimeError: there is no GPU, or the provider is not there, cannot start, or would leave work
            to the CPU.
        RunnerError: the file cannot be loaded.

    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        provider: str = CUDA_PROVIDER,
        provider_options: Mapping[str, str] | None = None,
        *,
        timed: bool = False,
    ) -> None:
        import onnxruntime

        super().__init__(CPU if provider == CPU_PROVIDER else cuda_device(f"ONNX Runtime's {provider}"))
        options = session_options(threads or usable_cpus(), timed=timed)
        chosen = self._stream_options() | dict(provider_options or {})
        self._session: Any = open_session(path, options, provider, chosen)
        self.name = f"onnxruntime ({provider.removesuffix('ExecutionProvider')}, bound)"
        self._inputs = tuple(tensor_spec(x) for x in self._session.get_inputs())
        self._outputs = tuple(tensor_spec(x) for x in self._session.get_outputs())
        self._binding: Any = self._session.io_binding()
        self._run_options = onnxruntime.RunOptions()
        self._run_options.add_run_config_entry(_UNSYNCHRONIZED, "1")  # `enqueue` waits for nothing
        self._placed: dict[str, Tensor] = {}

    def _stream_options(self) -> dict[str, str]:
        if self.stream is None:
            return {}
        return {"device_id": str(self.device.index), "user_compute_stream": str(self.stream.cuda_stream)}

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs."""
        return self._outputs

    def close(self) -> None:
        """Drop the session and its memory."""
        self.synchronize()
        self._binding = self._session = None
        self._placed = {}
        self._buffers.clear()

    def enqueue(self) -> None:
        """Start one run."""
        try:
            self._session.run_with_iobinding(self._binding, self._run_options)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise RunnerError(f"{self.name} failed: {first_line(error)}") from error

    def _results(self) -> Mapping[str, Tensor]:
        return self._placed

    def _bind(self, inputs: Mapping[str, Tensor]) -> None:
        sizes = {
            axis: size
            for spec in self._inputs
            for axis, size in zip(spec.shape, inputs[spec.name].shape, strict=True)
            if isinstance(axis, str)
        }
        for spec in self._inputs:
            self._binding.bind_input(*_place(spec, inputs[spec.name]))
        for spec in self._outputs:
            tensor = self._buffers.on_device(spec.name, getattr(torch, spec.dtype), self._shape(spec, sizes))
            self._binding.bind_output(*_place(spec, tensor))
            self._placed[spec.name] = tensor

    def _shape(self, spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
        unknown = [axis for axis in spec.shape if isinstance(axis, str) and axis not in sizes]
        if unknown:
            raise RunnerError(
                f"{self.name}: the output {spec.name} has the axis {unknown[0]}, which no input has, so no memory can "
                "be set aside for it: name the axes of outputs as those of inputs."
            )
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape)


def _place(spec: TensorSpec, tensor: Tensor) -> tuple[str, str, int, int, tuple[int, ...], int]:
    """Return where a tensor is as `IOBinding` takes it: by ONNX's element types, as numpy has no bfloat16."""
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return spec.name, tensor.device.type, tensor.device.index or 0, kind, tuple(tensor.shape), tensor.data_ptr()
