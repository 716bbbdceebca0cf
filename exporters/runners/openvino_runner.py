"""Running an IR in OpenVINO on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import MissingRuntimeError, RunnerError, first_line
from exporters.machine.cpu_quota import usable_cpus
from exporters.openvino.bindings import check_precision, load_openvino
from exporters.openvino.ir import WEIGHTS_SUFFIX
from exporters.runners.base import Array, Feeds, Runner
from exporters.spec import BATCH, SEQUENCE, TensorSpec
from exporters.variant import Precision

_HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16", Precision.FP16: "f16", Precision.INT8: "f32"}
"""What OpenVINO computes in where the graph has no Q/DQ nodes. Its default takes bf16 where the processor has it."""


class OpenVinoRunner(Runner):
    """A model compiled by OpenVINO for the CPU: one stream, the latency hint, and a precision that is checked.

    https://docs.openvino.ai/2026/openvino-workflow/running-inference/optimize-inference/precision-control.html

    Args:
        path: the XML file of the IR; its weights lie beside it.
        precision: what it must compute in.
        threads: how many threads; as many as the process may use unless given.

    Raises:
        MissingRuntimeError: OpenVINO is not installed or too old, or the processor lacks the precision.
        RunnerError: a file is missing or damaged, or OpenVINO would compute in another precision.

    """

    def __init__(self, path: Path, precision: Precision, threads: int | None = None) -> None:
        openvino = load_openvino()
        core = openvino.Core()
        check_precision(precision, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        for file in (path, path.with_suffix(WEIGHTS_SUFFIX)):
            if not file.is_file():
                raise RunnerError(f"{file} is missing: an IR is an XML file with its weights beside it.")
        hint = _HINTS[precision]
        config = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads or usable_cpus()),
        }
        try:
            self._compiled: Any = core.compile_model(str(path), "CPU", config)
        except Exception as error:  # OpenVINO's exceptions share no base class of their own
            raise RunnerError(f"OpenVINO cannot load {path}: {first_line(error)}") from error
        found = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if found != hint:
            raise MissingRuntimeError(f"OpenVINO would run {path.name} in {found} on this processor, not in {hint}.")
        self._request: Any = self._compiled.create_infer_request()
        self.name = "openvino (CPU)"

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs."""
        return tuple(_tensor_spec(x) for x in self._compiled.inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs."""
        return tuple(_tensor_spec(x) for x in self._compiled.outputs)

    @property
    def product_types(self) -> frozenset[str]:
        """The types that products with weights run in, as OpenVINO's executed graph names them: ``f32``, ``u8``."""
        nodes = self._compiled.get_runtime_model().get_ops()
        info = [node.get_rt_info() for node in nodes]
        products = [x for x in info if x["layerType"].astype(str) in ("FullyConnected", "MatMul")]
        return frozenset(x["runtimePrecision"].astype(str) for x in products)

    def close(self) -> None:
        """Drop the compiled model."""
        self._request = self._compiled = None

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        try:
            values = self._request.infer(dict(feeds))
        except Exception as error:  # as above
            raise RunnerError(f"{self.name} failed: {first_line(error)}") from error
        return {x.get_any_name(): np.array(values[x]) for x in self._compiled.outputs}


def _tensor_spec(port: Any) -> TensorSpec:
    """Return a port as runners describe it: its first two dynamic axes are the batch and the sequence."""
    names = (BATCH, SEQUENCE)
    shape = tuple(
        names[i] if axis.is_dynamic and i < len(names) else axis.get_length()
        for i, axis in enumerate(port.get_partial_shape())
    )
    return TensorSpec(port.get_any_name(), np.dtype(port.get_element_type().to_dtype()).name, shape)
