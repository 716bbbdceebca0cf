"""Structured pruning of transformer encoders, with export and validation of what is deployed.

>>> from kprune_export import RecipeError, prune_and_build
>>> try:
...     prune_and_build("no-such-model", "bundle", calibration="texts.txt", flops_reductoin=0.5)
... except RecipeError as error:
...     print(error)
There is no setting 'flops_reductoin' (did you mean 'flops_reduction'?).

The Python interface is `kprune_export.api`; the names below are imported when they are first used, so that importing
the package is fast. This package imports pruning and exporters, which import neither it nor each other.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporters.errors import ExporterError
    from kprune_export.api import Progress, export, prune, prune_and_build, sweep, validate
    from kprune_export.bundle.manifest import Manifest
    from kprune_export.errors import BundleError, ProductError, RecipeError, VerificationError
    from kprune_export.experiments.sweep.sweep_record import SweepRecord
    from kprune_export.pipeline.run import Outcome
    from kprune_export.recipe.recipe import Recipe
    from pruning.errors import PruningError

__all__ = [
    "BundleError",
    "ExporterError",
    "Manifest",
    "Outcome",
    "ProductError",
    "Progress",
    "PruningError",
    "Recipe",
    "RecipeError",
    "SweepRecord",
    "VerificationError",
    "export",
    "prune",
    "prune_and_build",
    "sweep",
    "validate",
]

_MODULES = {
    "BundleError": "kprune_export.errors",
    "ExporterError": "exporters.errors",
    "Manifest": "kprune_export.bundle.manifest",
    "Outcome": "kprune_export.pipeline.run",
    "ProductError": "kprune_export.errors",
    "Progress": "kprune_export.api",
    "PruningError": "pruning.errors",
    "Recipe": "kprune_export.recipe.recipe",
    "RecipeError": "kprune_export.errors",
    "SweepRecord": "kprune_export.experiments.sweep.sweep_record",
    "VerificationError": "kprune_export.errors",
    "export": "kprune_export.api",
    "prune": "kprune_export.api",
    "prune_and_build": "kprune_export.api",
    "sweep": "kprune_export.api",
    "validate": "kprune_export.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
