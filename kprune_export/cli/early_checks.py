"""Checks of named files and folders, made before libraries are imported that take seconds.

The same is checked again, and more thoroughly, by what reads them.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kprune_export.errors import BundleError, TargetError
from kprune_export.output_folder.inputs import OUTPUT, check_apart

if TYPE_CHECKING:
    from kprune_export.recipe.recipe import Recipe


def check_inputs(recipe: "Recipe", writes: str = OUTPUT) -> None:
    """Check that the checkpoint and the files that a recipe names are there.

    Args:
        recipe: names them.
        writes: what the output is called in messages.

    In a run of several processes the first one reports errors, once they have found each other: nothing is checked.

    Raises:
        OutputFolderError: the output folder is, contains or lies in something that is read.
        CheckpointError: the model is not there, or not a checkpoint.
        CalibrationError: a file of texts is not there.
        TargetError: a latency table, a timing cache or a file of sensitivity curves is not there.

    """
    from pruning.calibration.examples import check_source

    if os.environ.get("WORLD_SIZE", "") not in ("", "1"):
        return
    check_apart([(writes, recipe.output)], recipe.inputs)
    if recipe.calibration is not None:
        check_source(recipe.calibration)
    if recipe.evaluation is not None and not Path(recipe.evaluation).is_dir():  # a retrieval data set is a folder
        check_source(recipe.evaluation)
    if recipe.recover_texts is not None:
        check_source(recipe.recover_texts)
    named = (
        ("latency table", recipe.latency_table),
        ("file of sensitivity curves", recipe.sensitivity),
        ("timing cache", recipe.timing_cache),
    )
    for what, path in named:
        if path is not None and not Path(path).exists():
            raise TargetError(f"The {what} {path} does not exist.")
    if not os.path.lexists(Path(recipe.model) / "config.json"):
        from pruning.checkpoint.source import find_checkpoint  # imports torch

        find_checkpoint(recipe.model, recipe.allow_pickle)


def check_bundles(*bundles: Path) -> None:
    """Check that folders are finished bundles.

    Raises:
        BundleError: one is not.

    """
    from kprune_export.bundle.manifest import Manifest

    for bundle in bundles:
        Manifest.of_bundle(bundle)


def check_sweep(folder: Path) -> None:
    """Check that a folder is a finished sweep.

    Raises:
        BundleError: it is not.

    """
    from kprune_export.experiments.sweep.folder import RECORD

    if not (folder / RECORD).is_file():
        raise BundleError(f"{folder} is not a finished sweep: it has no {RECORD}. Run kprune-export sweep first.")


def check_repository(repository: Path) -> None:
    """Check that a folder is a model repository of this program.

    Raises:
        BundleError: it is not.

    """
    from kprune_export.bundle.layout import REPOSITORY_RECORD

    if not (repository / REPOSITORY_RECORD).is_file():
        raise BundleError(
            f"{repository} is not a finished repository of this program: it has no {REPOSITORY_RECORD}: make one with "
            "kprune-export triton."
        )
