"""Accuracy, divergence, time and memory of pruning on SST-2.

Prunes a fine-tuned classifier with sentences of SST-2's training set, and compares it on the development
set with the dense model. Time is given in seconds and, since machines differ, as a multiple of one dense
forward and backward pass over the same batches, timed in the same run. Memory is the peak of the process
above what it held once the model was loaded.

    python benchmarks/prune_sst2.py MODEL DATA --rates 0.5,0.8

MODEL is a checkpoint of a two-label classifier, DATA a folder with SST-2's train.tsv and dev.tsv.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kprune_export.evaluation.fidelity import classifier_fidelity
from kprune_export.evaluation.metrics import accuracy
from pruning import PruningSettings, ServingModule, load_checkpoint
from pruning.calibration.batches import Batch, make_batches
from pruning.calibration.examples import Example, read_examples, split_examples
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.prune import prune_checkpoint


def logits(checkpoint: EncoderCheckpoint, examples: Sequence[Example]) -> np.ndarray[Any, Any]:
    """Return the logits of all examples, in their order."""
    module = ServingModule(checkpoint)
    rows = np.empty((len(examples), len(checkpoint.task.labels)), dtype=np.float32)
    with torch.no_grad():
        for batch in make_batches(checkpoint.tokenizer, examples, checkpoint.max_tokens):
            rows[list(batch.rows)] = module(**batch.inputs).numpy()
    return rows


def seconds_of_one_pass(model: Path, batches: Sequence[Batch]) -> float:
    """Time one forward and backward pass, all gradients included, after a warm-up on the first batches."""
    checkpoint = load_checkpoint(model)
    checkpoint.model.requires_grad_(True)
    module = ServingModule(checkpoint)
    for part in (batches[-2:], batches):
        start = time.perf_counter()
        for batch in part:
            module(**batch.inputs).sum().backward()
            checkpoint.model.zero_grad()
    return time.perf_counter() - start


def peak_mib() -> float:
    """Return the most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(options: argparse.Namespace, rate: float) -> dict[str, Any]:
    """Prune at one rate and return every figure of it."""
    texts, _ = split_examples(read_examples(options.data / "train.tsv"), options.samples, 200, options.seed)
    dev = read_examples(options.data / "dev.tsv")
    labels = [int(example.label) for example in dev if isinstance(example.label, int)]
    checkpoint = load_checkpoint(options.model)
    batches = make_batches(checkpoint.tokenizer, texts, checkpoint.max_tokens)
    dense_logits = logits(checkpoint, dev)
    loaded = peak_mib()
    start = time.perf_counter()
    plan = prune_checkpoint(
        checkpoint, texts, PruningSettings(flops_reduction=rate, method=options.method, seed=options.seed)
    )
    seconds = time.perf_counter() - start
    above = peak_mib() - loaded
    pruned_logits = logits(checkpoint, dev)
    agreement, divergence, _ = classifier_fidelity(dense_logits, pruned_logits)
    metric = accuracy(dense_logits, pruned_logits, labels)
    one_pass = seconds_of_one_pass(options.model, batches)
    return {
        "rate": rate,
        "flops_reduction": plan.flops_reduction,
        "tokens": plan.calibration.tokens,
        "dense_accuracy": metric.dense,
        "accuracy": metric.pruned,
        "agreement": agreement.value,
        "mean_kl_nats": divergence.value,
        "seconds": seconds,
        "one_pass_s": one_pass,
        "passes": seconds / one_pass,
        "mib_above_model": above,
        "widths": [(len(layer.heads), len(layer.neurons)) for layer in plan.layers],
    }


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rates", default="0.5,0.8")
    parser.add_argument("--method", default="kprune")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    rates = [float(rate) for rate in options.rates.split(",")]
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:  # a process for each peak
        rows = [processes.submit(measure, options, rate).result() for rate in rates]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{rows[0]['tokens']} tokens, dense accuracy {rows[0]['dense_accuracy']:.2%}")
    print("removed  accuracy  agreement  KL (nats)  seconds  passes  MiB above the model  (heads, neurons) by layer")
    for row in rows:
        figures = (
            f"{row['flops_reduction']:7.2%}  {row['accuracy']:8.2%}  {row['agreement']:9.2%}  "
            f"{row['mean_kl_nats']:9.4f}  {row['seconds']:7.1f}  {row['passes']:6.1f}  {row['mib_above_model']:19.0f}"
        )
        print(f"{figures}  {row['widths']}")


if __name__ == "__main__":
    main()
