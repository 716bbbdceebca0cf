"""The errors that the exporters package raises on purpose; each message is one sentence for the user."""


class ExporterError(Exception):
    """Base of all errors that this package raises on purpose."""


class ExportError(ExporterError):
    """A model could not be exported as asked, or the graph is not what it has to be."""


class ShapeError(ExporterError):
    """A shape is malformed, or does not fit the model."""


class RunnerError(ExporterError):
    """A model was given inputs it does not take, or failed while it ran."""


class MissingRuntimeError(ExporterError):
    """The runtime asked for is not on this machine."""


class VariantError(ExporterError):
    """A runtime cannot run the precision that is asked for."""


class EngineError(ExporterError):
    """An engine cannot be built as asked, or its files do not belong together or to this machine."""


class TableError(ExporterError):
    """A latency table cannot be used: damaged, or measured for something else."""


class ParityError(ExporterError):
    """An artefact's outputs differ from those of the model it was made from."""


class MeasurementError(ExporterError):
    """Outputs or labels cannot be compared as asked."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
