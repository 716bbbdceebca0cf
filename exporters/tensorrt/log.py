"""The builder's log: kept, never printed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_KEPT_IN_FULL = ("Layers:", "Engine Layer Information:")
"""Verbose messages are thousands, and of no use but these, which list the compiled layers."""


@dataclass(frozen=True)
class LogEntry:
    """One message; ``severity`` is the name of the member of ILogger.Severity."""

    severity: str
    message: str

    @property
    def is_error(self) -> bool:
        """Whether something failed."""
        return self.severity in ("ERROR", "INTERNAL_ERROR")

    @property
    def is_warning(self) -> bool:
        """Whether it is a warning."""
        return self.severity == "WARNING"


@dataclass
class BuilderLog:
    """What a builder, and all that was made with it, has said."""

    entries: list[LogEntry] = field(default_factory=list)

    def logger(self, trt: Any) -> Any:
        """Return an ILogger that writes into this log; it has to outlive what is made with it."""
        entries = self.entries

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                if severity.name != "VERBOSE" or msg.startswith(_KEPT_IN_FULL):
                    entries.append(LogEntry(severity.name, msg))

        return Logger()

    def errors(self, since: int = 0) -> tuple[str, ...]:
        """Return the messages of errors from an entry on, each once and on one line."""
        found = [" ".join(entry.message.split()) for entry in self.entries[since:] if entry.is_error]
        return tuple(dict.fromkeys(found))

    def complaints(self, since: int = 0) -> tuple[str, ...]:
        """Return the messages of errors and warnings from an entry on, each once and on one line."""
        found = [e for e in self.entries[since:] if e.is_error or e.is_warning]
        return tuple(dict.fromkeys(" ".join(entry.message.split()) for entry in found))

    def write(self, path: Path, source: Path) -> None:
        """Write the log as text, one message per line and its own lines below it.

        Args:
            path: the file to write.
            source: the folder that the model was read from, which is left out: a log is published with its engine.

        """
        text = "".join(f"[{entry.severity}] {entry.message}\n" for entry in self.entries)
        for folder in (source.resolve(), source):
            text = text.replace(f"{folder}/", "")
        path.write_text(text, encoding="utf-8")
