"""The trtexec command that measures what `exporters.timing.gpu_timer` measures.

https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/command-line-programs.html
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from exporters.errors import EngineError
from exporters.runners.base import Feeds
from exporters.spec import Shape
from exporters.tensorrt.engine_record import EngineRecord
from exporters.tensorrt.profiles import OptimizationProfile, choose_profile
from exporters.timing.latency import TimingSettings

QUIET_BY_DEFAULT = 11
"""Since this version trtexec records CUDA graphs and copies nothing unless asked to; before, the reverse."""


@dataclass(frozen=True)
class TrtexecModel:
    """What trtexec is to run.

    Attributes:
        path: an engine; or an ONNX file, ``.onnx``, which trtexec then builds an engine from.
        inputs: the names of its (batch, sequence) inputs.
        profiles: the engine's optimization profiles, or those to build it with.
        major: TensorRT's major version.
        tf32: whether an engine built from ONNX may use TF32.

    """

    path: Path
    inputs: tuple[str, ...]
    profiles: tuple[OptimizationProfile, ...]
    major: int
    tf32: bool = False

    @classmethod
    def of_engine(cls, plan: Path, record: EngineRecord) -> Self:
        """Describe an engine.

        Raises:
            EngineError: TensorRT-RTX built it, whose tool is another one.

        """
        if record.bindings != "tensorrt":
            raise EngineError(
                f"{plan} is an engine of {record.bindings}, which trtexec does not run: use its own tool."
            )
        inputs = tuple(spec.name for spec in record.inputs)
        return cls(plan, inputs, record.optimization_profiles, int(record.bindings_version.split(".")[0]))


def trtexec_command(
    model: TrtexecModel, shape: Shape, settings: TimingSettings, cuda_graphs: bool, data: Path | None = None
) -> str:
    """Return the command whose "GPU Compute Time" is to be compared with measured times, ready for a shell.

    Its median is the p50. Its percentiles are measured calls, where those of `latency_stats` are interpolated between
    two; with some hundred calls that is no difference.

    Args:
        model: what to run.
        shape: the inputs' shape.
        settings: how long was measured.
        cuda_graphs: whether the measured runner had CUDA graphs.
        data: where `write_trtexec_inputs` put the inputs. Without them trtexec makes numbers from −128 to 127 up,
            which are no token ids.

    Raises:
        ShapeError: the shape is outside every profile.

    """
    words = ["trtexec"]
    if model.path.suffix == ".onnx":
        words += [f"--onnx={model.path}", *_build_flags(model)]
    else:
        words.append(f"--loadEngine={model.path}")
    words += [f"--shapes={_shapes(model.inputs, shape)}", f"--useProfile={choose_profile(model.profiles, shape)}"]
    if data is not None:
        words.append("--loadInputs=" + ",".join(f"{name}:{_data_file(data, name)}" for name in model.inputs))
    words += [
        f"--warmUp={settings.warmup_s * 1000:.0f}",
        f"--duration={settings.seconds:g}",
        f"--iterations={settings.min_blocks}",
        "--infStreams=1",
        "--percentile=90,95,99",
    ]
    if model.major >= QUIET_BY_DEFAULT:
        words += [] if cuda_graphs else ["--noCudaGraph"]
    else:
        words += ["--noDataTransfers", "--useSpinWait", *(["--useCudaGraph"] if cuda_graphs else [])]
    return shlex.join(words)


def write_trtexec_inputs(folder: Path, feeds: Feeds) -> None:
    """Write inputs as trtexec reads them: each array's bytes in C order, in a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in feeds.items():
        np.ascontiguousarray(array).tofile(_data_file(folder, name))


def _build_flags(model: TrtexecModel) -> list[str]:
    flags = []
    for index, profile in enumerate(model.profiles):
        if len(model.profiles) > 1:
            flags.append(f"--profile={index}")
        flags += [
            f"--{which}Shapes={_shapes(model.inputs, limit)}"
            for which, limit in (("min", profile.min), ("opt", profile.opt), ("max", profile.max))
        ]
    if model.major < QUIET_BY_DEFAULT:
        flags.append("--stronglyTyped")  # later versions know nothing else
    return flags if model.tf32 else [*flags, "--noTF32"]


def _shapes(inputs: Sequence[str], shape: Shape) -> str:
    return ",".join(f"{name}:{shape}" for name in inputs)


def _data_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.bin"
