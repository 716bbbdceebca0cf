"""``kprune-export prune-and-build``."""

from kprune_export.cli import options
from kprune_export.cli.running import pipeline, run_recipe
from kprune_export.cli.setting_options import Settings, with_settings
from kprune_export.recipe.recipe import SECTIONS


@with_settings(
    *SECTIONS,
    first=(
        "model",
        "output",
        "calibration",
        "evaluation",
        "flops_reduction",
        "target_speedup",
        "runtime",
        "precision",
        "shapes",
        "min_agreement",
        "min_speedup",
    ),
)
def prune_and_build(
    settings: Settings,
    recipe: options.RecipeFile = None,
    json_output: options.Json = False,
    gates: options.GatesFile = None,
    junit: options.Junit = None,
) -> int:
    """Prune an encoder, export it to ONNX and TensorRT, validate it, and evaluate the gates.

    Writes plan.json, checkpoint/, onnx/, with TensorRT engines/, parity.json, fidelity.json, latency.json, gates.json,
    report.html, with --triton triton/ and, last, manifest.json. A run that is killed resumes when it
    is run again.

    With --target-speedup or --target-latency-ms the budget is time on this machine: what widths cost is measured
    (latency_table.json) and what they lose (sensitivity.json), the widths that lose least in that time are searched
    for and trial-timed (target.json), and the finished model must meet it.

    Example: kprune-export prune-and-build ./my-classifier -o bundle --calibration texts.txt
    --flops-reduction 0.5 --min-speedup 1.5
    """
    return run_recipe(pipeline("prune_and_build"), recipe, settings, as_json=json_output, gates=gates, junit=junit)
