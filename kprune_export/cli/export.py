"""``kprune-export export``."""

from kprune_export.cli import options
from kprune_export.cli.options import given


def export(
    model: options.Model = None,
    output: options.Output = None,
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
    from kprune_export.cli.console import ConsoleReporter, own_process
    from kprune_export.cli.results import print_summary
    from kprune_export.recipe import Recipe
    from kprune_export.summary import summarise

    settings = Recipe.build(None, overrides)
    own_process(settings)
    outcome = pipeline.export(settings, ConsoleReporter())
    return print_summary(summarise(outcome), as_json=json_output)
