"""Messages to and from a process that times one model."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from exporters.errors import ExporterError
from exporters.runners.base import Feeds, Runner
from exporters.spec import TensorSpec
from exporters.timing.timers import Timer

Opener = Callable[[], AbstractContextManager[Runner]]
"""Opens a runner in the process that calls it; it has to be picklable: a `functools.partial` of something importable.
"""


@dataclass(frozen=True)
class Open:
    """Open the model; answered by `Opened`.

    Attributes:
        opener: what opens it.
        timer: what times its calls.
        threads: how many threads the process's pool has, as `share_thread_pool` makes it.

    """

    opener: Opener
    timer: Timer
    threads: int


@dataclass(frozen=True)
class Prepare:
    """Keep inputs for all blocks that follow; answered by True."""

    feeds: Feeds


@dataclass(frozen=True)
class Block:
    """Time some calls; answered by `exporters.timing.timers.Calls`.

    Attributes:
        calls: how many.
        wake: make one more before them, which is not timed: it wakes the threads that were at rest.

    """

    calls: int
    wake: bool


@dataclass(frozen=True)
class Rest:
    """Answer by True as soon as no thread of the process runs."""


@dataclass(frozen=True)
class Run:
    """Run the model once; answered by its outputs."""

    feeds: Feeds


Request = Open | Prepare | Block | Rest | Run


@dataclass(frozen=True)
class Opened:
    """The model is open.

    Attributes:
        name: the runtime, as reports call it.
        inputs: the inputs that the model takes.
        outputs: the outputs that it gives.

    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Refused:
    """The request could not be done, for a reason that is meant for the user."""

    error: ExporterError
