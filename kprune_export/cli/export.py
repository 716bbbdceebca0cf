"""``kprune-export export``."""

from kprune_export.cli import options
from kprune_export.cli.options import given
from kprune_export.cli.running import run_recipe


def export(
    model: options.RequiredModel,
    output: options.RequiredOutput,
    pooling: options.Pooling = None,
    allow_pickle: options.AllowPickle = None,
    json_output: options.Json = False,
    threads: options.Threads = None,
) -> int:
    """Export a dense or a pruned checkpoint to ONNX as it is, and check parity with torch.

    Writes onnx/model.onnx, parity.json and manifest.json. The dense twin of a bundle is this command on
    the dense checkpoint.

    Example: kprune-export export ./my-classifier -o dense
    """
    overrides = given(dict(locals()))
    from kprune_export import pipeline

    return run_recipe(pipeline.export, None, overrides, as_json=json_output)
