"""Settings of the export: runtimes and precisions."""

from typing import Annotated, ClassVar

from exporters.variant import Precision, Runtime, Variant
from kprune_export.recipe.settings import Section, Setting, Use, uses


class ExportSection(Section):
    """What is exported for."""

    panel: ClassVar[str] = "Export"

    runtime: Annotated[
        tuple[Runtime, ...],
        Setting(
            "What to export for: onnxruntime (CPU), onnxruntime-cuda, tensorrt, openvino (CPU); may be repeated or "
            "comma-separated.",
            uses(Use.EXPORT),
            metavar="NAME",
        ),
    ] = (Runtime.ONNXRUNTIME,)
    precision: Annotated[
        tuple[Precision, ...],
        Setting(
            "The precisions to export: fp32, fp16, bf16, int8; may be repeated or comma-separated. int8 measures its "
            "ranges on the calibration texts.",
            uses(Use.EXPORT),
            metavar="NAME",
        ),
    ] = (Precision.FP32,)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants to make: every runtime in every precision.

        Raises:
            VariantError: a runtime cannot run a precision.

        """
        return tuple(Variant(runtime, precision) for runtime in self.runtime for precision in self.precision)

    @property
    def quantizes(self) -> bool:
        """Whether a variant is int8, for which calibration texts are needed."""
        return Precision.INT8 in self.precision
