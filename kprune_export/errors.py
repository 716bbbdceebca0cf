"""Exit codes, and which error means which."""

import errno
from enum import IntEnum

from kprune_export.printable import printable

_LINK_LOOP = "Symlink loop from "
_LONGEST_MESSAGE = 2000
"""Characters; files can hold names and values of any length."""


_OF_THE_SYSTEM = frozenset(
    getattr(errno, name)
    for name in (
        "EACCES", "EAGAIN", "EDQUOT", "EFBIG", "EIO", "EISDIR", "ELOOP", "EMFILE", "ENAMETOOLONG", "ENFILE", "ENODEV",
        "ENOSPC", "ENOTDIR", "ENXIO", "EPERM", "EROFS", "ESTALE",
    )
)  # fmt: skip
"""Errors of the operating system that no fault of this program causes."""


class ExitCode(IntEnum):
    """What the command line returns; the numbers are part of the interface."""

    OK = 0
    INTERNAL = 1
    BAD_INPUT = 2
    GATE_FAILED = 3
    PARITY_FAILED = 4
    RUNTIME_MISSING = 5
    INCONCLUSIVE = 6
    INTERRUPTED = 130
    TERMINATED = 143


class Termination(KeyboardInterrupt):
    """The process was terminated (SIGTERM, SIGHUP): all that is done for Ctrl-C is done, with another exit code."""


class ProductError(Exception):
    """Base of the errors that this package raises on purpose; one sentence for the user."""

    exit_code = ExitCode.BAD_INPUT


class SurroundingsError(ProductError):
    """The process cannot work where or as it was started: its working directory, limits or environment variables."""


class RecipeError(ProductError):
    """A recipe file or a setting is not valid."""


class OutputFolderError(ProductError):
    """The output folder cannot be used: it holds something else, or another run is writing to it."""


class BundleError(ProductError):
    """A bundle is missing, incomplete or damaged."""


class VerificationError(ProductError):
    """A bundle's files are not those that its manifest lists."""


class GateError(ProductError):
    """A bundle is to be released whose gates failed."""

    exit_code = ExitCode.GATE_FAILED


class HubError(ProductError):
    """The Hugging Face hub cannot be reached, or refuses."""


class KeyFileError(ProductError):
    """A key cannot be used to sign, or to check a signature."""


class ServingError(ProductError):
    """A server does not serve a repository: it does not start, or does not answer."""


class TargetError(ProductError):
    """A latency target cannot be met, or does not go with other settings."""


class NoTrialError(ProductError):
    """No trial of a sweep is what is asked for."""

    exit_code = ExitCode.GATE_FAILED


class LabelError(ProductError):
    """Labels do not fit the model's task."""


def exit_code_of(error: BaseException) -> ExitCode | None:
    """Return the exit code for an error raised on purpose, or None for a bug.

    Errors of the other two packages are imported only once one is there to be looked at, so that the
    command line does not load them to print a help text.
    """
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.TERMINATED if isinstance(error, Termination) else ExitCode.INTERRUPTED
    if isinstance(error, ProductError):
        return error.exit_code
    if _is_short_of_memory(error) or _is_link_loop(error):
        return ExitCode.BAD_INPUT
    if isinstance(error, OSError):
        return ExitCode.BAD_INPUT if error.errno in _OF_THE_SYSTEM or _lacks_temporary_folder(error) else None

    from exporters.errors import ExporterError, ExportError, MissingRuntimeError, ParityError, RunnerError
    from pruning.errors import DeviceMissingError, PruningError

    if isinstance(error, ParityError):
        return ExitCode.PARITY_FAILED
    if isinstance(error, MissingRuntimeError | DeviceMissingError):
        return ExitCode.RUNTIME_MISSING
    if isinstance(error, ExportError | RunnerError):
        return ExitCode.INTERNAL
    if isinstance(error, PruningError | ExporterError):
        return ExitCode.BAD_INPUT
    return None


def message_of(error: BaseException) -> str:
    """Return the one sentence that is shown for an error raised on purpose; what is very long in it is cut."""
    text = printable(" ".join(_message_of(error).split()))
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"


def _message_of(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted; run the same command again to resume."
    if _is_short_of_memory(error):
        said = str(error) or "an allocation failed"
        return f"There is not enough memory ({said}): use smaller shapes, or a machine with more."
    if _is_link_loop(error):
        return f"{str(error).removeprefix(_LINK_LOOP)} leads to itself by symbolic links: name a file or a folder."
    if isinstance(error, OSError):
        return _message_of_system_error(error)
    return str(error)


def _message_of_system_error(error: OSError) -> str:
    where, what = (f" for {error.filename}" if error.filename else ""), error.filename or "A file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"No space is left on the disk{where}: free some and run the same command again."
    if error.errno == errno.EFBIG:
        return f"{what} is larger than this process may write: raise the limit (ulimit -f, in the shell)."
    if _lacks_temporary_folder(error):
        return "No folder for temporary files can be written to: set TMPDIR to one that can."
    if error.errno == errno.EAGAIN:
        return "No further process or thread can be started: raise the limit (ulimit -u, in the shell)."
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"Too many files are open{where}: raise the limit (ulimit -n, in the shell)."
    return f"{what} cannot be used: {error.strerror}."


def _lacks_temporary_folder(error: OSError) -> bool:
    """Whether it is what Python's tempfile raises where none of the usual places can be written to."""
    return error.errno == errno.ENOENT and error.filename is None and "usable temporary directory" in str(error)


def _is_link_loop(error: BaseException) -> bool:
    """Whether it is what pathlib raises, up to Python 3.12, where it resolves links that lead to each other."""
    return isinstance(error, RuntimeError) and str(error).startswith(_LINK_LOOP)


def _is_short_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: Python's, torch's on the CPU, or torch's on a GPU."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    )
