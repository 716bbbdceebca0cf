"""YAML files of settings: recipes and gates."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from kprune_export.errors import RecipeError


def read_settings(file: Path, kind: str, known: Sequence[str]) -> dict[str, Any]:
    """Read a mapping of settings to values; an empty file holds none.

    Args:
        file: the file.
        kind: what it is called in messages.
        known: the keys that it may have.

    Raises:
        RecipeError: it cannot be read, is not a YAML mapping, or has unknown keys, which are all named.

    """
    values = _read(file, kind)
    if unknown := sorted(set(values) - set(known)):
        found = ", ".join(_with_suggestion(key, known) for key in unknown)
        word = "the unknown key" if len(unknown) == 1 else "unknown keys,"
        raise RecipeError(f"The {kind} {file} has {word} {found}: known are {', '.join(known)}.")
    return values


def _read(file: Path, kind: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"The {kind} {file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # numbers and dates that are none
        raise RecipeError(f"The {kind} {file} is not YAML: {' '.join(str(error).split())}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise RecipeError(f"The {kind} {file} is not a mapping of settings to values.")
    return values


def _with_suggestion(key: str, known: Sequence[str]) -> str:
    """Return an unknown key, quoted, with the known one that it is most like."""
    typed = key.replace("-", "_")
    longer = [name for name in known if name.startswith(typed)]  # cut short is likelier than misspelt
    likely = longer or difflib.get_close_matches(typed, known, n=1, cutoff=0.5)
    return repr(key) + (f" (did you mean {likely[0]!r}?)" if likely else "")
