"""Tensors that rest on disk, so that what a run holds for every sublayer takes no memory."""

import os
import tempfile
from collections.abc import Hashable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor


class Spill:
    """One process's tensors in a file without a name, which is gone when the process is, however that ends.

    Args:
        folder: on whose disk the file is; the system's folder for such files unless given.

    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - open as long as the run
        self._places: dict[Hashable, tuple[int, np.dtype[np.generic], tuple[int, ...]]] = {}

    def put(self, key: Hashable, tensor: Tensor) -> None:
        """Write a tensor; it is read back by its key.

        Raises:
            OSError: the disk is full, or does not take it.

        """
        array = tensor.detach().cpu().numpy()
        try:
            self._places[key] = (self._file.seek(0, os.SEEK_END), array.dtype, array.shape)
            self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._folder)) from error

    def get(self, key: Hashable) -> Tensor:
        """Read a tensor back, onto the CPU."""
        place, dtype, shape = self._places[key]
        array = np.empty(shape, dtype)
        self._file.seek(place)
        self._file.readinto(array.reshape(-1).view(np.uint8).data)
        return torch.from_numpy(array)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the file's space back."""
        self._file.close()
