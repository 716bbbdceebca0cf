"""OpenVINO's Python package, which is an optional dependency, and what this processor can compute in."""

import importlib.util
from collections.abc import Sequence
from typing import Any

from packaging.version import Version

from exporters.errors import MissingRuntimeError
from exporters.variant import Precision

OLDEST_TESTED = Version("2026.4")
"""Older versions are refused: how they convert and run the graphs was not tested."""
_NEEDED = {Precision.BF16: "BF16", Precision.FP16: "FP16"}


def is_installed() -> bool:
    """Return whether the package can be imported."""
    return importlib.util.find_spec("openvino") is not None


def load_openvino() -> Any:
    """Return the package.

    Raises:
        MissingRuntimeError: it is not installed, cannot be imported, or is older than `OLDEST_TESTED`.

    """
    if not is_installed():
        raise MissingRuntimeError("OpenVINO is not installed: pip install -c constraints.txt '.[openvino]'.")
    try:
        import openvino
    except ImportError as error:
        raise MissingRuntimeError(f"OpenVINO cannot be imported: {error}") from error
    check_version(openvino.__version__)
    return openvino


def check_version(found: str) -> None:
    """Refuse versions older than `OLDEST_TESTED`.

    Args:
        found: a version as OpenVINO gives it, with its build after a dash.

    Raises:
        MissingRuntimeError: it is older.

    """
    if Version(number := found.split("-")[0]) < OLDEST_TESTED:
        raise MissingRuntimeError(
            f"OpenVINO {number} is older than {OLDEST_TESTED}, the oldest version tested: install a newer openvino."
        )


def check_precisions(precisions: Sequence[Precision]) -> None:
    """Refuse precisions that this processor lacks; errors as `load_openvino` and `check_precision`."""
    capabilities = load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision in precisions:
        check_precision(precision, capabilities)


def check_precision(precision: Precision, capabilities: Sequence[str]) -> None:
    """Refuse a precision that the processor has no instructions for, and OpenVINO would compute in float32.

    Args:
        precision: the precision asked for.
        capabilities: OpenVINO's ``OPTIMIZATION_CAPABILITIES`` of the CPU.

    Raises:
        MissingRuntimeError: the processor lacks it.

    """
    needed = _NEEDED.get(precision)
    if needed is not None and needed not in capabilities:
        raise MissingRuntimeError(
            f"This processor has no {precision} instructions that OpenVINO uses (it has "
            f"{', '.join(sorted(capabilities))}): ask for fp32 or int8, or run {precision} on another machine."
        )
