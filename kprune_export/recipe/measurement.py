"""Settings of measuring: shapes, threads, and how long is timed."""

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from kprune_export.recipe.settings import Section, Setting, Use, uses

if TYPE_CHECKING:
    from exporters.timing.latency import TimingSettings

MOST_THREADS = 4096
"""More than any machine has; numbers far above it do not fit into what the runtimes take."""
_MEASUREMENT = uses(Use.MEASUREMENT)


class MeasurementSection(Section):
    """How latency and fidelity are measured."""

    panel: ClassVar[str] = "Measuring"

    shapes: Annotated[
        tuple[str, ...],
        Setting("Batch sizes and tokens to time, comma-separated.", _MEASUREMENT, metavar="SHAPES"),
    ] = ("1x128", "8x128")
    threads: Annotated[
        int | None,
        Field(ge=1, le=MOST_THREADS),
        Setting("Threads to run with.", shown="all processors, or the CPU quota rounded up"),
    ] = None
    timing_seconds: Annotated[
        float,
        Field(gt=0, le=600),
        Setting(
            "Seconds to time each model at each shape, after 0.2 s to warm up; at least 15 calls are timed.",
            _MEASUREMENT,
        ),
    ] = 3.0
    isolate: Annotated[
        bool, Setting("Time each model in a process of its own, so that they share no memory or threads.", _MEASUREMENT)
    ] = False
    dense_int8: Annotated[
        bool,
        Setting(
            "Whether the dense model in int8 is measured too, which shows what int8 does without pruning; for ONNX "
            "Runtime on the CPU also where int8 is not exported. It takes one more export, fidelity pass and timing.",
            _MEASUREMENT,
        ),
    ] = True

    @property
    def timing(self) -> "TimingSettings":
        """How long latency is measured."""
        from exporters.timing.latency import TimingSettings

        return TimingSettings(seconds=self.timing_seconds)
