"""Variants: a runtime and a precision that a model is exported for."""

from dataclasses import dataclass
from enum import StrEnum

from exporters.errors import VariantError


class Precision(StrEnum):
    """The format of a model's weights, and of the products with them."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


class Runtime(StrEnum):
    """What a variant is made for."""

    ONNXRUNTIME = "onnxruntime"
    ONNXRUNTIME_CUDA = "onnxruntime-cuda"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"

    @property
    def on_cpu(self) -> bool:
        """Whether it runs on the processor, and not on a GPU."""
        return self in (Runtime.ONNXRUNTIME, Runtime.OPENVINO)


@dataclass(frozen=True, order=True)
class Variant:
    """A runtime and a precision.

    Raises:
        VariantError: the runtime cannot run the precision.

    """

    runtime: Runtime
    precision: Precision

    def __post_init__(self) -> None:
        if self.runtime is Runtime.ONNXRUNTIME and self.precision is Precision.BF16:
            raise VariantError(
                "ONNX Runtime's CPU provider has no bf16 kernels: ask for fp32, fp16 or int8, or for another runtime."
            )
        if self.runtime is Runtime.ONNXRUNTIME_CUDA and self.precision is Precision.INT8:
            raise VariantError(
                "ONNX Runtime's CUDA provider has no int8 multiplications: ask for fp32, fp16 or bf16, or for tensorrt."
            )

    def __str__(self) -> str:
        return f"{self.runtime}-{self.precision}"

    @property
    def stem(self) -> str:
        """What its files are called: ``model`` for ONNX Runtime's CPU provider in fp32."""
        parts = [self.runtime.value] if self.runtime is not Runtime.ONNXRUNTIME else []
        parts += [self.precision.value] if parts or self.precision is not Precision.FP32 else []
        return "-".join(("model", *parts))

    @property
    def file_name(self) -> str:
        """The name of its ONNX file."""
        return f"{self.stem}.onnx"


REFERENCE = Variant(Runtime.ONNXRUNTIME, Precision.FP32)
"""What fidelity is measured against: the dense model in this variant."""
