"""Spearman's rank correlation on STS-B of a sentence embedder, dense and pruned.

    python benchmarks/embed_stsb.py MODEL DATA --rates 0.3,0.5,0.7

MODEL is a sentence-transformers checkpoint, DATA a folder with STS-B's train.tsv and dev.tsv. It calibrates
on sentences of the training set, or with --embedded on those out of the installed packages' docstrings.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kprune_export.evaluation.metrics import cosine_of_pairs, spearman
from kprune_export.evaluation.retrieval_metrics import embedding_fidelity
from pruning import PruningSettings, ServingModule, load_checkpoint
from pruning.calibration.batches import make_batches
from pruning.calibration.docstrings import docstring_examples
from pruning.calibration.examples import Example, flatten_pairs, read_examples, split_examples
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.prune import prune_checkpoint


def embed(checkpoint: EncoderCheckpoint, examples: Sequence[Example]) -> np.ndarray[Any, Any]:
    """Return the embeddings of all examples, in their order."""
    module = ServingModule(checkpoint)
    rows: list[Any] = [None] * len(examples)
    with torch.no_grad():
        for batch in make_batches(checkpoint.tokenizer, examples, checkpoint.max_tokens):
            for row, vector in zip(batch.rows, module(**batch.inputs).numpy(), strict=True):
                rows[row] = vector
    return np.stack(rows)


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rates", default="0.3,0.5,0.7")
    parser.add_argument("--method", default="kprune")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embedded", action="store_true")
    options = parser.parse_args()

    if options.embedded:
        texts = docstring_examples(options.samples, options.seed)
    else:
        train = flatten_pairs(read_examples(options.data / "train.tsv"))
        texts, _ = split_examples(train, options.samples, 200, options.seed)
    dev = read_examples(options.data / "dev.tsv")
    single = flatten_pairs(dev)
    row = {example.text: number for number, example in enumerate(single)}
    first, second = [row[x.text] for x in dev], [row[x.pair or ""] for x in dev]
    labels = [float(x.label) for x in dev if isinstance(x.label, int | float)]
    dense = embed(load_checkpoint(options.model), single)
    print("removed  Spearman dense  pruned  mean cosine  overlap  (heads, neurons) by layer")
    for rate in map(float, options.rates.split(",")):
        checkpoint = load_checkpoint(options.model)
        plan = prune_checkpoint(
            checkpoint, texts, PruningSettings(flops_reduction=rate, method=options.method, seed=options.seed)
        )
        pruned = embed(checkpoint, single)
        metric = spearman(*(cosine_of_pairs(x[first], x[second]) for x in (dense, pruned)), labels)
        cosine, overlap, *_ = embedding_fidelity(dense, pruned)
        widths = [(len(layer.heads), len(layer.neurons)) for layer in plan.layers]
        print(
            f"{plan.flops_reduction:7.2%}  {metric.dense:14.4f}  {metric.pruned:6.4f}  {cosine.value:11.4f}  "
            f"{overlap.value:7.4f}  {widths}"
        )


if __name__ == "__main__":
    main()
