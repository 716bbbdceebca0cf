"""Progress of a build, from TensorRT's own progress monitor."""

import threading
from collections.abc import Callable
from typing import Any


class BuildProgress:
    """Turns nested phases of steps into one share that only grows.

    TensorRT calls from several threads, and cannot raise what a callback raises: the error is kept, the build
    is stopped, and `raise_if_failed` raises it.

    Args:
        report: called with the share that is done, from 0 to 1.

    """

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[str | None, int, int]] = {}
        self._share = 0.0
        self._error: BaseException | None = None

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """Note that a phase has begun."""
        with self._lock:
            self._phases[phase] = (parent, max(1, steps), 0)

    def step(self, phase: str, step: int) -> bool:
        """Note that a step, counted from 0, is done; return whether the build shall continue."""
        with self._lock:
            if phase in self._phases:
                parent, steps, _ = self._phases[phase]
                self._phases[phase] = (parent, steps, step + 1)
            root = next((name for name, (parent, _, _) in self._phases.items() if parent is None), None)
            share = self._done(root) if root is not None else 0.0
            if share > self._share and self._error is None:
                self._share = share
                try:
                    self._report(share)
                except BaseException as error:  # raised again where Python can
                    self._error = error
            return self._error is None

    def finish(self, phase: str) -> None:
        """Note that a phase has ended."""
        with self._lock:
            self._phases.pop(phase, None)

    def raise_if_failed(self) -> None:
        """Raise what the callback raised."""
        if self._error is not None:
            raise self._error

    def monitor(self, trt: Any) -> Any:
        """Return an IProgressMonitor that reports here; it has to outlive the build."""
        progress = self

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                progress.start(phase_name, parent_phase, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                return progress.step(phase_name, step)

            def phase_finish(self, phase_name: str) -> None:
                progress.finish(phase_name)

        return Monitor()

    def _done(self, phase: str) -> float:
        _, steps, done = self._phases[phase]
        inner = max((self._done(name) for name, (parent, _, _) in self._phases.items() if parent == phase), default=0.0)
        return min(1.0, (done + inner) / steps)
