"""Memory that pruning needs above the loaded model, for encoders of one width and several depths.

    python benchmarks/memory_by_depth.py MODEL TEXTS

MODEL is a BERT or MPNet checkpoint; its first layers, repeated where more are needed, make encoders of each depth, for
memory does not depend on what the weights are. Every run is a process of its own; the peak is the process's, above the
most that it had held once the model was loaded and had run once.
"""

import argparse
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from pruning import PruningSettings, load_checkpoint, prune_checkpoint
from pruning.calibration.examples import flatten_pairs, read_examples, split_examples


def write_of_depth(model: Path, layers: int, folder: Path) -> None:
    """Write a checkpoint with the model's width and this many layers."""
    dense = AutoModel.from_pretrained(model)
    config = AutoConfig.from_pretrained(model)
    config.num_hidden_layers = layers
    made = AutoModel.from_config(config)
    made.load_state_dict(dense.state_dict(), strict=False)
    for number, layer in enumerate(made.encoder.layer):
        layer.load_state_dict(dense.encoder.layer[number % len(dense.encoder.layer)].state_dict())
    made.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)


def peak_mib() -> float:
    """Return the most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder: Path, method: str, texts: Path, samples: int) -> tuple[int, float]:
    """Prune half of an encoder's FLOPs; return the tokens that it was calibrated on, and the MiB above the model."""
    checkpoint = load_checkpoint(folder, pooling="mean")
    examples, _ = split_examples(flatten_pairs(read_examples(texts)), samples, 0, 0)
    adapter = checkpoint.open()
    with torch.no_grad():
        adapter.encode(checkpoint.batches(examples[:8])[0].inputs)
    loaded = peak_mib()
    plan = prune_checkpoint(checkpoint, examples, PruningSettings(flops_reduction=0.5, method=method))
    return plan.calibration.tokens, peak_mib() - loaded


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--layers", default="6,12,24")
    parser.add_argument("--methods", default="kprune,kprune-paper")
    parser.add_argument("--samples", type=int, default=500)
    options = parser.parse_args()
    print("| method | layers | tokens | MiB above the model |\n|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as parent,
        ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes,
    ):
        for layers in map(int, options.layers.split(",")):
            folder = Path(parent) / str(layers)
            processes.submit(write_of_depth, options.model, layers, folder).result()
            for method in options.methods.split(","):
                tokens, above = processes.submit(measure, folder, method, options.texts, options.samples).result()
                print(f"| `{method}` | {layers} | {tokens} | {above:.0f} |", flush=True)


if __name__ == "__main__":
    main()
