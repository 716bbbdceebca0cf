"""Paths of a bundle's inputs on this machine, which the bundle itself does not contain.

A bundle is made to be published, and paths reveal who made it. So a manifest and a report give the names of what
lies elsewhere, and hashes; the paths stay in the state folder of the user who made the bundle
(https://specifications.freedesktop.org/basedir-spec/latest), under the hash of the manifest, so that a bundle can be
validated again on the same machine, wherever it has been moved.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kprune_export.bundle.layout import MANIFEST
from kprune_export.bundle.manifest import Manifest
from kprune_export.errors import BundleError
from kprune_export.recipe.input_names import ELSEWHERE, INPUTS
from kprune_export.recipe.recipe import Recipe
from pruning.checkpoint.source import file_sha256

logger = logging.getLogger(__name__)


def remember_inputs(manifest_sha256: str, settings: Mapping[str, Any]) -> None:
    """Keep where the inputs of a bundle are, those that are on this machine.

    Args:
        manifest_sha256: the hash of its manifest.
        settings: the recipe's, as they were given.

    """
    paths = {name: Path(settings[name]).expanduser() for name in INPUTS if settings.get(name) is not None}
    known = {name: str(path.resolve()) for name, path in paths.items() if path.exists()}
    try:
        file = _file(manifest_sha256)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        partial.chmod(0o600)
        partial.replace(file)
    except (OSError, RuntimeError) as error:  # the latter where there is no home folder
        logger.warning(
            "Where the bundle's inputs are could not be kept (%s): to validate it, name them with --dense, "
            "--calibration and --evaluation.",
            error,
        )


def repeatable_settings(bundle: Path) -> dict[str, Any]:
    """Return the settings that repeat a bundle's run: its recipe, with the paths of inputs that are known here.

    Raises:
        BundleError: the bundle has no valid manifest.

    """
    settings = Manifest.of_bundle(bundle).repeatable_recipe
    try:
        known = json.loads(_file(file_sha256(bundle / MANIFEST)).read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # it was made elsewhere, or by an earlier version
        return settings
    paths = known if isinstance(known, dict) else {}
    return settings | {name: paths[name] for name in INPUTS if isinstance(paths.get(name), str)}


def check_known(bundle: Path, recipe: Recipe) -> None:
    """Check, before a bundle is validated, that its recipe says where the dense model and the texts are.

    Raises:
        BundleError: it does not: the bundle was made elsewhere, and they were not named.

    """
    model = Path(recipe.model).expanduser()
    if recipe.model.startswith((ELSEWHERE, "./", "/", "~")) and not model.exists():
        raise BundleError(f"{recipe.model}, the dense model of {bundle}, is not on this machine: name it with --dense.")
    read = {"evaluation" if recipe.evaluation else "calibration", *(("calibration",) if recipe.quantizes else ())}
    for name in sorted(read):
        texts = getattr(recipe, name)
        if texts is not None and texts.startswith(ELSEWHERE):
            raise BundleError(
                f"{texts}, the {name} texts of {bundle}, is not on this machine: name a copy with --{name}."
            )


def _file(manifest_sha256: str) -> Path:
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    state = given if given.is_absolute() else Path.home() / ".local" / "state"
    return state / "kprune-export" / "inputs" / f"{manifest_sha256}.json"
