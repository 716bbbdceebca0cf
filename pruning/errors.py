"""The errors that the pruning package raises on purpose.

Every message is one sentence for the person who ran the command: what is wrong, what was found,
and what to do about it. Anything else that escapes is a bug.
"""


class PruningError(Exception):
    """Base of all errors that this package raises on purpose."""


class CheckpointError(PruningError):
    """The checkpoint cannot be used: missing, damaged, or not in a form that is read."""


class UnsupportedModelError(CheckpointError):
    """The checkpoint is sound, but its architecture or task head is not supported."""


class CalibrationError(PruningError):
    """The calibration or evaluation texts cannot be used."""


class BudgetError(PruningError):
    """The FLOPs reduction asked for is not a number in (0, 1) or leaves nothing to keep."""


class MethodError(PruningError):
    """There is no such pruning method, or it has no such hyperparameter."""


class DeviceError(PruningError):
    """The device cannot be used as asked."""


class DeviceMissingError(DeviceError):
    """The device asked for is not here."""


class PlanError(PruningError):
    """A pruning plan is malformed or does not fit the model that it is applied to."""


class SolveError(PruningError):
    """The least-squares problem of a sublayer has no finite solution."""
