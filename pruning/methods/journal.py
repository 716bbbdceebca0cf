"""Journal of finished work on disk, from which a killed run resumes."""

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
    """What one sublayer keeps: unit indices (n,), projection weight (d, n·unit_size), bias (d,) or None."""

    kept: Tensor
    weight: Tensor
    bias: Tensor | None

    def to(self, device: torch.device) -> "TunedSublayer":
        """Return it on a device."""
        bias = None if self.bias is None else self.bias.to(device)
        return TunedSublayer(self.kept.to(device), self.weight.to(device), bias)


class Journal:
    """A folder with one safetensors file for each finished step of a run.

    Files of a run with other inputs or settings are not used: each carries the run's fingerprint.

    Args:
        folder: where the files are; made if need be.
        fingerprint: identifies the inputs, the settings and the versions of the run.

    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        folder.mkdir(parents=True, exist_ok=True)

    def within(self, **parts: object) -> "Journal":
        """Return the journal of a part of the run that more decides: its own files, in the same folder."""
        return Journal(self._folder, json.dumps([self._fingerprint, parts], sort_keys=True))

    def has(self, step: str) -> bool:
        """Whether this run has finished a step before."""
        try:
            with safe_open(self._folder / f"{step}.safetensors", framework="pt") as file:
                return (file.metadata() or {}).get("fingerprint") == self._fingerprint
        except (OSError, SafetensorError):  # not finished, or cut short by a crash of the machine
            return False

    def load(self, step: str) -> dict[str, Tensor] | None:
        """Return what a step that this run has finished before has left, or None."""
        path = self._folder / f"{step}.safetensors"
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("fingerprint") != self._fingerprint:
                    return None
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except SafetensorError:  # cut short by a crash of the machine: that step is done again
            return None

    def save(self, step: str, tensors: dict[str, Tensor]) -> None:
        """Record a finished step; the file appears whole or not at all."""
        path = self._folder / f"{step}.safetensors"
        partial = path.with_suffix(".partial")
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        with disk_errors(partial):
            save_file(tensors, partial, metadata={"fingerprint": self._fingerprint})
        partial.replace(path)

    def load_sublayer(self, number: int) -> TunedSublayer | None:
        """Return a sublayer that this run has finished before, or None."""
        found = self.load(_sublayer(number))
        return None if found is None else TunedSublayer(found["kept"], found["weight"], found.get("bias"))

    def save_sublayer(self, number: int, tuned: TunedSublayer) -> None:
        """Record a finished sublayer."""
        tensors = {"kept": tuned.kept, "weight": tuned.weight}
        self.save(_sublayer(number), tensors if tuned.bias is None else {**tensors, "bias": tuned.bias})


def _sublayer(number: int) -> str:
    return f"sublayer-{number:03d}"


def fingerprint(**parts: object) -> str:
    """Return a canonical text of whatever decides a run's result."""
    return json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), **parts}, sort_keys=True)
