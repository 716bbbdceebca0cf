"""Standard output and standard error that take anything: closed ones, closed pipes, any encoding.

What a run has come to must not depend on who reads along: a reader that has gone, or a terminal that cannot show a
character, changes no exit code. A disk that is full where output is redirected to is reported like any other.
"""

import codecs
import contextlib
import io
import os
import sys
from typing import Any, TextIO

_ESCAPES = "kprune-json-escapes"
"""The name of the error handler that writes what an encoding lacks as JSON does: valid inside JSON, and readable."""
_UTF_16_UNIT = 0x10000


def prepare_streams() -> None:
    """Make the standard streams usable, whatever they are; of the process that runs the command line.

    File descriptors that are closed are opened on nothing, or else the next file to be opened would get what
    libraries print. Streams that somebody has replaced, as tests do, are left alone but for their error handler.
    """
    for descriptor, flags in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            _open_on_nothing(descriptor, flags)
    codecs.register_error(_ESCAPES, _json_escapes)
    sys.stdout = _tolerant(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _tolerant(sys.stderr, sys.__stderr__, 2)


def flush_output() -> None:
    """Flush standard output, so that what cannot be written is an error of the command.

    Raises:
        OSError: it cannot be written; what is left of it is thrown away.

    """
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()
        raise


def discard_output() -> None:
    """Throw away what could not be written, so that Python does not fail at it again when it ends."""
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            _open_on_nothing(descriptor, os.O_WRONLY)
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


class _Descriptor(io.FileIO):
    """An open file descriptor; what cannot be written is thrown away where the failure is one that it forgives."""

    def __init__(self, descriptor: int, forgives: type[OSError]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._forgives = forgives

    def write(self, data: Any, /) -> int:
        """Write bytes, and return how many are done with."""
        try:
            return super().write(data)
        except self._forgives:
            return memoryview(data).nbytes


def _tolerant(stream: TextIO | None, original: TextIO | None, descriptor: int) -> TextIO:
    """Return a stream that takes every character and outlives its reader."""
    if stream is not None and stream is not original:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPES)
        return stream
    if stream is not None:
        stream.flush()
    # progress output must not end the run: a full disk under the log, for example
    raw = _Descriptor(descriptor, OSError if descriptor == 2 else BrokenPipeError)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=(stream and stream.encoding) or "utf-8",
        errors=_ESCAPES,
        line_buffering=descriptor == 2 or os.isatty(descriptor),
    )


def _json_escapes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = []
    for character in error.object[error.start : error.end]:
        number = ord(character)
        if number >= _UTF_16_UNIT:
            number -= _UTF_16_UNIT
            found.append(f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}")
        else:
            found.append(f"\\u{number:04x}")
    return "".join(found), error.end


def _open_on_nothing(descriptor: int, flags: int) -> None:
    opened = os.open(os.devnull, flags)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)
