"""Terminal output during a run and at its end."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.logging import RichHandler
from rich.segment import Segment
from rich.text import Text

from kprune_export.printable import printable

_PACKAGES = ("pruning", "exporters", "kprune_export")
_LITERAL: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
"""Text is shown as it is: names and labels out of files may look like rich's markup. Colours are `rich.text.Text`."""


class _WrittenOut:
    """Shows something with its control characters written out; those that the console itself sends stay."""

    def __init__(self, shown: ConsoleRenderable) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._shown, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


class PrintableConsole(Console, RenderHook):
    """A console on which no text controls the terminal, wherever it came from."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**_LITERAL, **settings)
        self.push_render_hook(self)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Return text as it is shown; here, so that tables are as wide as what they show."""
        return super().render_str(printable(text), **settings)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Return what is shown in place of what is printed."""
        return [_WrittenOut(shown) for shown in renderables]


def error_console() -> Console:
    """Return a console on standard error: progress and errors go there, results to standard output."""
    return PrintableConsole(stderr=True, soft_wrap=True)


def output_console() -> Console:
    """Return a console on standard output."""
    return PrintableConsole(soft_wrap=not sys.stdout.isatty())


def route_warnings() -> None:
    """Show the packages' warnings on standard error, one line each, and keep other libraries quiet."""
    handler = RichHandler(console=error_console(), show_time=False, show_path=False, markup=False)
    for name in _PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.WARNING)
        logger.propagate = False


def warn_once() -> None:
    """Show each warning only the first time: of a command that does the same for several models."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        known = text in seen
        seen.add(text)
        return not known

    for name in _PACKAGES:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(is_new)


@contextlib.contextmanager
def hub_bars() -> Iterator[None]:
    """Let the hub's client draw its bars on a terminal, and nowhere else."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    quiet = not error_console().is_terminal and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        yield
    finally:
        if quiet:
            enable_progress_bars()
