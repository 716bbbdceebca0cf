"""``kprune-export prune``."""

from kprune_export.cli import options
from kprune_export.cli.running import pipeline, run_recipe
from kprune_export.cli.setting_options import Settings, with_settings
from kprune_export.recipe.measurement import MeasurementSection
from kprune_export.recipe.model import ModelSection
from kprune_export.recipe.pruning import PruningSection
from kprune_export.recipe.recovery import RecoverySection
from kprune_export.recipe.texts import TextsSection


@with_settings(
    ModelSection,
    TextsSection,
    PruningSection,
    RecoverySection,
    MeasurementSection,
    without=("label_column", "held_out", "evaluation", "shapes", "timing_seconds", "isolate", "dense_int8"),
)
def prune(settings: Settings, recipe: options.RecipeFile = None, json_output: options.Json = False) -> int:
    """Prune an encoder: writes plan.json, checkpoint/ and manifest.json, without exporting.

    Example: kprune-export prune ./my-classifier -o pruned --calibration texts.txt --flops-reduction 0.7
    """
    return run_recipe(pipeline("prune"), recipe, settings, as_json=json_output)
