"""Names of a run's inputs in its outputs: names that reveal nothing of the machine that it ran on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

INPUTS = ("model", "calibration", "evaluation", "recover_texts", "latency_table", "sensitivity", "timing_cache")
"""The settings that name what a run reads."""
ELSEWHERE = "…/"
"""What stands for the folders above a name; nothing can be opened by such a path."""


def shipped_name(setting: str, given: str) -> str:
    """Return what a bundle says of an input: its hub id, its path as far as that reveals nothing, or its name.

    Relative paths stay, those of a recipe that is under version control with its inputs. A relative path of a model
    begins with ``./``, so that it is never taken for a hub id where the folder is not there.

    Args:
        setting: one of `INPUTS`.
        given: what the user gave.

    """
    path = Path(given).expanduser()
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return ELSEWHERE + path.resolve().name
    return f"./{path}" if setting == "model" and path.is_dir() else given


def shipped_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a recipe as a bundle records them."""
    return {
        name: shipped_name(name, str(value)) if name in INPUTS and value is not None else value
        for name, value in settings.items()
    }
