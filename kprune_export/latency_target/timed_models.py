"""The dense model cut to any widths, opened in the runtime that is timed: what latency is measured on before pruning.

How long a model takes depends on its widths and not on its weights, so a model of some widths need not be pruned to
be timed.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import onnx_ir as ir
import torch

from exporters.errors import ExportError
from exporters.onnx.export import exported_graph
from exporters.onnx.passes.widths import UniformWidths, WidthTemplate
from exporters.onnx.write import write_variant
from exporters.open import open_variant, timer_of
from exporters.processes.scratch import scratch_folder
from exporters.runners.base import Feeds, Runner
from exporters.runners.torch_runner import TorchDeviceRunner, TorchRunner
from exporters.spec import ModelSpec
from exporters.tensorrt.build import engine_from_onnx
from exporters.tensorrt.settings import EngineSettings
from exporters.timing.gpu_timer import DeviceEvents
from exporters.timing.latency_table.table import Widths
from exporters.timing.timers import HostClock, Timer
from exporters.variant import Precision, Runtime, Variant
from kprune_export.model_export import model_spec
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.serving import ServingModule

LoadDense = Callable[[], EncoderCheckpoint]
"""Loads a new copy of the dense checkpoint, to be cut by the caller."""
_TORCH_DTYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}


class _Graph(NamedTuple):
    model: ir.Model
    spec: ModelSpec


def _cut(dense: EncoderCheckpoint, widths: Widths) -> tuple[EncoderCheckpoint, ModelSpec]:
    """Cut a dense checkpoint in place and describe it."""
    dense.open().keep_first(widths)
    return dense, replace(model_spec(dense, {}), attention_layers=sum(heads > 0 for heads, _ in widths))


class OnnxModels:
    """Exported to a variant, and built into an engine where that is what runs.

    Args:
        load_dense: loads the checkpoint that is cut.
        variant: what for.
        threads: how many ONNX Runtime uses.
        feeds: calibration batches, for int8.
        engine: how engines are built.

    """

    def __init__(
        self,
        load_dense: LoadDense,
        variant: Variant,
        threads: int,
        feeds: tuple[Feeds, ...] = (),
        engine: EngineSettings | None = None,
    ) -> None:
        self._load_dense, self.variant, self.threads = load_dense, variant, threads
        self._feeds, self._engine = feeds, engine or EngineSettings()
        self._cuts: Callable[[Widths], _Graph] | None = None

    @property
    def runtime(self) -> str:
        """What runs them."""
        return self.variant.runtime.value

    @property
    def precision(self) -> Precision:
        """What they compute in."""
        return self.variant.precision

    @property
    def timer(self) -> Timer:
        """How their calls are timed."""
        return timer_of(self.variant)

    @contextlib.contextmanager
    def open(self, widths: Widths) -> Iterator[Runner]:
        """Open the model cut to some widths.

        Raises:
            ExportError: it cannot be exported.
            EngineError: an engine cannot be built.
            RunnerError: it cannot be loaded.

        """
        with self.open_graph(*self._graph(widths)) as runner:
            yield runner

    @contextlib.contextmanager
    def open_graph(self, model: ir.Model, spec: ModelSpec) -> Iterator[Runner]:
        """Open an exported graph in the variant; errors as `open`."""
        with scratch_folder() as folder:
            write_variant(model, spec, self.variant, folder, self._feeds, self.threads)
            del model
            if self.variant.runtime is Runtime.TENSORRT:
                path = folder / self.variant.file_name
                engine_from_onnx(path, spec, self.variant.precision, folder, self.variant.stem, self._engine)
            with open_variant(self.variant, folder, folder, self.threads, timed=True) as runner:
                yield runner

    def _graph(self, widths: Widths) -> "_Graph":
        """Return the graph at some widths: cut out of another one where all layers are alike, else exported."""
        heads, neurons = widths[0]
        if any(pair != widths[0] for pair in widths) or heads < 2 or not neurons:  # a single head has another graph
            return self._exported(widths)
        if self._cuts is None:
            self._cuts = self._template()
        return self._cuts(widths)

    def _template(self) -> Callable[[Widths], "_Graph"]:
        """Return what makes graphs of uniform widths quickly, or else by exporting each, which gives the same."""
        checkpoint = self._load_dense()
        shape = checkpoint.family.encoder_shape(checkpoint.model.config)
        if shape.heads < 3 or shape.neurons < 2:
            return self._exported
        full = UniformWidths(shape.heads, shape.neurons)
        less = UniformWidths(shape.heads - 1, shape.neurons - 1)
        graphs = [self._exported([(x.heads, x.neurons)] * shape.layers) for x in (full, less)]
        try:
            template = WidthTemplate(graphs[0].model, full, graphs[1].model, less)
        except ExportError:
            return self._exported
        return lambda widths: _Graph(template.at(UniformWidths(*widths[0])), graphs[0].spec)

    def _exported(self, widths: Widths) -> "_Graph":
        checkpoint, spec = _cut(self._load_dense(), widths)
        return _Graph(exported_graph(ServingModule(checkpoint), spec), spec)


class TorchModels:
    """Run by torch in eager mode.

    Args:
        load_dense: loads the checkpoint that is cut.
        precision: fp32, or on a GPU fp16 or bf16.
        device: where.

    """

    def __init__(self, load_dense: LoadDense, precision: Precision, device: torch.device) -> None:
        self._load_dense, self.precision, self._device = load_dense, precision, device

    runtime = "torch"
    """What runs them."""

    @property
    def timer(self) -> Timer:
        """How their calls are timed."""
        return HostClock() if self._device.type == "cpu" else DeviceEvents()

    @contextlib.contextmanager
    def open(self, widths: Widths) -> Iterator[Runner]:
        """Open the model cut to some widths."""
        checkpoint, spec = _cut(self._load_dense(), widths)
        module = ServingModule(checkpoint).eval().to(self._device, _TORCH_DTYPES[self.precision])
        if self._device.type == "cpu":
            with TorchRunner(module, spec) as runner:
                yield runner
        else:
            with TorchDeviceRunner(module, spec, self._device) as device_runner:
                yield device_runner
