"""Checkpoint in, smaller checkpoint out: structured pruning of encoders without retraining.

This package knows torch and transformers, and nothing of ONNX or of any runtime. Its names are imported
when they are first used, so that importing the package costs nothing.

Importing it switches off what the Hugging Face libraries report beside what they are asked to fetch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruning.checkpoint.load import EncoderCheckpoint, load_checkpoint, load_pruned
    from pruning.checkpoint.save import save_pruned
    from pruning.checkpoint.sentence import load_sentence_transformer
    from pruning.plan import PruningPlan
    from pruning.prune import prune_checkpoint, sensitivity_of
    from pruning.serving import ServingModule
    from pruning.settings import PruningSettings

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")  # of data sets

_HOMES = {
    "EncoderCheckpoint": "pruning.checkpoint.load",
    "PruningSettings": "pruning.settings",
    "PruningPlan": "pruning.plan",
    "ServingModule": "pruning.serving",
    "load_checkpoint": "pruning.checkpoint.load",
    "load_pruned": "pruning.checkpoint.load",
    "load_sentence_transformer": "pruning.checkpoint.sentence",
    "prune_checkpoint": "pruning.prune",
    "save_pruned": "pruning.checkpoint.save",
    "sensitivity_of": "pruning.prune",
}
__all__ = [
    "EncoderCheckpoint",
    "PruningPlan",
    "PruningSettings",
    "ServingModule",
    "load_checkpoint",
    "load_pruned",
    "load_sentence_transformer",
    "prune_checkpoint",
    "save_pruned",
    "sensitivity_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
