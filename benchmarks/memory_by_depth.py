"""Memory that pruning needs above the loaded model, for encoders of one width and several depths.

    python benchmarks/memory_by_depth.py MODEL TEXTS

MODEL is a BERT checkpoint; its first layers, repeated where more are needed, make encoders of each depth, for memory
does not depend on what the weights are. Every run is a process of its own; the peak is the process's, above what it
held once the model was loaded and had run once.
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


def of_depth(model: Path, layers: int, folder: Path) -> Path:
    """Write a checkpoint with the model's width and this many layers."""
    dense = AutoModel.from_pretrained(model)
    config = AutoConfig.from_pretrained(model)
    config.num_hidden_layers = layers
    made = AutoModel.from_config(config)
    made.embeddings.load_state_dict(dense.embeddings.state_dict())
    for number, layer in enumerate(made.encoder.layer):
        layer.load_state_dict(dense.encoder.layer[number % len(dense.encoder.layer)].state_dict())
    made.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def peak_mib() -> float:
    """Return the most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(model: Path, layers: int, method: str, texts: Path, samples: int) -> tuple[int, float]:
    """Prune half of an encoder's FLOPs; return the tokens that it was calibrated on, and the MiB above the model."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = load_checkpoint(of_depth(model, layers, Path(folder)), pooling="mean")
        examples, _ = split_examples(flatten_pairs(read_examples(texts)), samples, 0, 0)
        adapter = checkpoint.open()
        with torch.no_grad():
            adapter.encode(checkpoint.batches(examples[:8])[0].inputs)
        loaded = peak_mib()
        plan = prune_checkpoint(checkpoint, examples, PruningSettings(flops_reduction=0.5, method=method), 0)
        return plan.calibration.tokens, peak_mib() - loaded


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--layers", default="6,12,24")
    parser.add_argument("--samples", type=int, default=500)
    options = parser.parse_args()
    print("| method | layers | tokens | MiB above the model |\n|---|---|---|---|")
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for method in ("kprune", "kprune-paper"):
            for layers in map(int, options.layers.split(",")):
                arguments = (options.model, layers, method, options.texts, options.samples)
                tokens, above = processes.submit(measure, *arguments).result()
                print(f"| `{method}` | {layers} | {tokens} | {above:.0f} |", flush=True)


if __name__ == "__main__":
    main()
