"""What a run has finished, on disk, so that a killed run goes on at the sublayer where it stopped."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pruning.disk import disk_errors


@dataclass(frozen=True)
class TunedSublayer:
    """What one sublayer keeps: unit indices (n,), projection weight (d, n·unit_size), bias (d,)."""

    kept: Tensor
    weight: Tensor
    bias: Tensor


class Journal:
    """A folder with one safetensors file for each finished sublayer.

    Files of a run with other inputs or settings are not used: each carries the run's fingerprint.

    Args:
        folder: where the files are; made if need be.
        fingerprint: identifies the inputs, the settings and the versions of the run.

    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, number: int) -> TunedSublayer | None:
        """Return a sublayer that this run has finished before, or None."""
        path = self._path(number)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("fingerprint") != self._fingerprint:
                    return None
                return TunedSublayer(*(file.get_tensor(name) for name in ("kept", "weight", "bias")))
        except SafetensorError:  # cut short by a crash of the machine: that sublayer is pruned again
            return None

    def save(self, number: int, tuned: TunedSublayer) -> None:
        """Record a finished sublayer; the file appears whole or not at all."""
        path = self._path(number)
        partial = path.with_suffix(".partial")
        tensors = {"kept": tuned.kept, "weight": tuned.weight.contiguous(), "bias": tuned.bias.contiguous()}
        with disk_errors(partial):
            save_file(tensors, partial, metadata={"fingerprint": self._fingerprint})
        partial.replace(path)

    def _path(self, number: int) -> Path:
        return self._folder / f"sublayer-{number:03d}.safetensors"


def fingerprint(**parts: object) -> str:
    """Return a canonical text of whatever decides a run's result."""
    return json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), **parts}, sort_keys=True)
