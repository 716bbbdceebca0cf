"""``kprune-export demo``."""

from pathlib import Path
from typing import Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.running import pipeline, run_recipe


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path("demo-output"),
    json_output: options.Json = False,
) -> int:
    """Run the main job on all-MiniLM-L6-v2, which the extra "demo" installs: half of its FLOPs go, in fp32 and int8.

    Takes a few minutes, and needs no download and no texts: it calibrates on sentences from the docstrings of
    the installed packages. With texts of your own the pruned model is better.
    """
    from kprune_export.demo import demo_model

    settings = {"model": str(demo_model()), "output": output, "flops_reduction": 0.5, "precision": "fp32,int8"}
    settings |= {"recover": "on", "recover_tokens": 120_000}
    return run_recipe(pipeline("prune_and_build"), None, settings, as_json=json_output)
