"""One interface for everything that can run a model: torch, ONNX Runtime, and engines."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from exporters.errors import RunnerError
from exporters.spec import TensorSpec

Array = NDArray[Any]
Feeds = Mapping[str, Array]


class Runner(ABC):
    """A loaded model that maps named arrays to named arrays; a context manager.

    `run` checks names, dtypes and shapes before anything reaches the runtime, so that a mistake is
    reported in the same words whatever the runtime is.
    """

    name: str
    """The runtime, as reports call it."""

    @property
    def process_id(self) -> int:
        """The number of the process that the model runs in."""
        return os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    @abstractmethod
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs that the model takes."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs that it gives."""

    @abstractmethod
    def close(self) -> None:
        """Free what the runtime holds."""

    @abstractmethod
    def _run(self, feeds: Feeds) -> dict[str, Array]:
        """Run the model on feeds that have been checked."""

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run the model once.

        Raises:
            RunnerError: the feeds are not the model's inputs, or the runtime failed.

        """
        self.check(feeds)
        return self._run(feeds)

    def check(self, feeds: Feeds) -> None:
        """Refuse feeds whose names, dtypes or shapes are not the model's.

        Raises:
            RunnerError: the first thing that does not fit.

        """
        expected = {spec.name: spec for spec in self.inputs}
        if set(feeds) != set(expected):
            raise RunnerError(
                f"{self.name} takes the inputs {', '.join(sorted(expected))}, but was given {', '.join(sorted(feeds))}."
            )
        sizes: dict[str, int] = {}
        for name, spec in expected.items():
            array = feeds[name]
            if array.dtype != np.dtype(spec.dtype):
                raise RunnerError(f"{self.name}: {name} must be {spec.dtype}, but is {array.dtype}.")
            if len(array.shape) != len(spec.shape):
                raise RunnerError(f"{self.name}: {name} must have the shape {spec.shape}, but has {array.shape}.")
            for axis, size in zip(spec.shape, array.shape, strict=True):
                wanted = axis if isinstance(axis, int) else sizes.setdefault(axis, size)
                if size != wanted:
                    raise RunnerError(f"{self.name}: {name} has {size} on axis {axis}, but {wanted} is needed.")
