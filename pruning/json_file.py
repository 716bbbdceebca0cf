"""Reading a checkpoint's JSON files."""

import json
from pathlib import Path
from typing import Any

from pruning.errors import CheckpointError


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        CheckpointError: it cannot be read, is not JSON, or is nested too deeply to be.

    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}.") from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        CheckpointError: as `read_json`, or it holds something else.

    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object, so it describes no checkpoint.")
    return value
