"""``kprune-export export``."""

from kprune_export.cli import options
from kprune_export.cli.running import pipeline, run_recipe
from kprune_export.cli.setting_options import Settings, with_settings
from kprune_export.recipe.engine import EngineSection
from kprune_export.recipe.export import ExportSection
from kprune_export.recipe.measurement import MeasurementSection
from kprune_export.recipe.model import ModelSection
from kprune_export.recipe.texts import TextsSection


@with_settings(
    ModelSection,
    TextsSection,
    ExportSection,
    EngineSection,
    MeasurementSection,
    without=("label_column", "held_out", "evaluation", "shapes", "timing_seconds", "isolate", "dense_int8"),
    required=("model", "output"),
)
def export(settings: Settings, json_output: options.Json = False) -> int:
    """Export a dense or a pruned checkpoint to ONNX and TensorRT as it is, and check parity with torch.

    Writes onnx/, with TensorRT engines/, parity.json and manifest.json. Texts are for int8 only. The dense baseline
    of a bundle is this command on the dense checkpoint.

    Example: kprune-export export ./my-classifier -o dense
    """
    return run_recipe(pipeline("export"), None, settings, as_json=json_output)
