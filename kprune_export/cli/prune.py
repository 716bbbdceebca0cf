"""``kprune-export prune``."""

from kprune_export.cli import options
from kprune_export.cli.options import given
from kprune_export.cli.running import run_recipe


def prune(
    model: options.Model = None,
    output: options.Output = None,
    recipe: options.RecipeFile = None,
    pooling: options.Pooling = None,
    allow_pickle: options.AllowPickle = None,
    json_output: options.Json = False,
    calibration: options.Calibration = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    samples: options.Samples = None,
    seed: options.Seed = None,
    flops_reduction: options.FlopsReduction = None,
    sequence_length: options.SequenceLength = None,
    method: options.Method = None,
    temperature: options.Temperature = None,
    balance: options.Balance = None,
    head_weight: options.HeadWeight = None,
    ridge: options.Ridge = None,
    device: options.Device = None,
    offload: options.Offload = None,
    threads: options.Threads = None,
) -> int:
    """Prune an encoder: writes plan.json, checkpoint/ and manifest.json, without exporting.

    Example: kprune-export prune ./my-classifier -o pruned --calibration texts.txt --flops-reduction 0.7
    """
    overrides = given(dict(locals()))
    from kprune_export.pipeline import run as pipeline

    return run_recipe(pipeline.prune, recipe, overrides, as_json=json_output)
