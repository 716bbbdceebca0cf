"""Divergence and task metric of the K-prune methods over tasks, rates and seeds, and each idea's contribution.

    python benchmarks/quality.py RESULTS --sst2 MODEL --mrpc MODEL --stsb MODEL --data DATA
    python benchmarks/quality.py RESULTS --table
    python benchmarks/quality.py RESULTS --ablation --sst2 MODEL --stsb MODEL --data DATA

MODEL is a checkpoint for the task (MRPC's is made by train_mrpc.py), DATA a folder with the tasks' TSV files.
Calibrates on 1,000 texts of the training set, without labels, and measures on the development set. RESULTS is a
JSON-lines file; a cell that is in it is not measured again, so the benchmark resumes where it was stopped.
"""

import argparse
import contextlib
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from kprune_export.evaluation.metrics import accuracy, cosine_of_pairs, spearman
from pruning import PruningSettings, load_checkpoint, prune_checkpoint
from pruning.calibration.batches import Batch
from pruning.calibration.examples import Example, flatten_pairs, read_examples, split_examples
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.errors import BudgetError
from pruning.methods.kprune import method as default_method
from pruning.methods.kprune import sensitivity
from pruning.methods.kprune.allocation import WidthChoices
from pruning.methods.kprune.elimination import Elimination

TASKS = ("sst2", "mrpc", "stsb")
METHODS: dict[str, dict[str, Any]] = {
    "kprune": {},
    "kprune-paper": {"method": "kprune-paper"},
    "kprune-paper, constants fitted here": {"method": "kprune-paper", "head_weight": 8.0, "ridge": 1e-4},
    "kwon2022": {"method": "kwon2022"},
    "kcm2023": {"method": "kcm2023"},
    "magnitude": {"method": "magnitude"},
    "random": {"method": "random"},
}
FITTED_BALANCE = {"sst2": 0.005, "mrpc": 0.005, "stsb": 0.0005}


@torch.no_grad()
def outputs(checkpoint: EncoderCheckpoint, examples: Sequence[Example]) -> Tensor:
    """Return the task's outputs for all examples, in their order: (texts, outputs)."""
    adapter, rows = checkpoint.open(), [torch.empty(0)] * len(examples)
    for batch in checkpoint.batches(examples):
        found = adapter.head(adapter.encode(batch.inputs), batch.attention_mask)
        for row, values in zip(batch.rows, found, strict=True):
            rows[row] = values
    return torch.stack(rows)


def metric_of(task: str, dev: Sequence[Example], found: Tensor) -> float:
    """Return accuracy, or for STS-B the rank correlation of cosines, times 100."""
    values = found.numpy()
    labels: list[Any] = [example.label for example in dev]
    if task != "stsb":
        return 100 * accuracy(values, values, [int(x) for x in labels]).dense
    row = {example.text: number for number, example in enumerate(flatten_pairs(dev))}
    cosines = cosine_of_pairs(values[[row[x.text] for x in dev]], values[[row[x.pair or ""] for x in dev]])
    return 100 * spearman(cosines, cosines, [float(x) for x in labels]).dense


def energy_elimination(problem: Any, old: Tensor, ridge: float, unit_size: int, widths: Any, _: Any) -> Any:
    """Remove the units that add least squared distance by themselves (K_rep), then solve once."""
    energy = problem.gram.diagonal()[: problem.columns] * old.double().square().sum(0)
    order = energy.view(-1, unit_size).sum(1).argsort(descending=True, stable=True)
    found = []
    for width in widths:
        kept = order[:width].sort().values
        columns = (kept[:, None] * unit_size + torch.arange(unit_size)).flatten()
        weight, bias = problem.of_columns(columns).solve(old[:, columns], torch.zeros(len(old)), ridge)
        found.append(Elimination(kept, weight.T, bias[None]))
    return found


def uniform(sublayers: Sequence[WidthChoices], budget: int) -> list[int]:
    """Keep the same share of every sublayer."""
    dense = sum(int(choices.costs[-1]) for choices in sublayers)
    return [int(choices.widths[-1] * budget / dense) for choices in sublayers]


def two_patches(name: str, replacement: Callable[..., Any]) -> contextlib.ExitStack:
    """Replace a function in both modules that use it."""
    stack = contextlib.ExitStack()
    for module in (default_method, sensitivity):
        if hasattr(module, name):
            stack.enter_context(mock.patch.object(module, name, replacement))
    return stack


ABLATIONS: dict[str, tuple[dict[str, Any], Callable[[], contextlib.AbstractContextManager[Any]]]] = {
    "all": ({}, contextlib.nullcontext),
    "errors weighed alike, without the Fisher metric": (
        {},
        lambda: two_patches("metric_root", lambda information: torch.eye(len(information), dtype=torch.float64)),
    ),
    "units scored by themselves, not after the others are re-solved": (
        {},
        lambda: two_patches("eliminate", energy_elimination),
    ),
    "the same share of every sublayer, not allocated": ({}, lambda: two_patches("allocate", uniform)),
    "ridge 1e-4, not chosen on texts left out": ({"ridge": 1e-4}, contextlib.nullcontext),
    "curves measured on the texts that were solved on": (
        {},
        lambda: mock.patch.object(Batch, "without", lambda self, _: self),
    ),
}


class Bench:
    """One task's texts, dense outputs, and the results file."""

    def __init__(self, task: str, model: Path, data: Path, results: Path) -> None:
        self.task, self.model, self.results = task, model, results
        self.train = read_examples(data / task / "train.tsv")
        self.dev = read_examples(data / task / "dev.tsv")
        dense = load_checkpoint(model)
        self.texts = flatten_pairs(self.dev) if task == "stsb" else self.dev
        self.teacher = outputs(dense, self.texts)
        self.dense_metric = metric_of(task, self.dev, self.teacher)

    def run(self, variant: str, rates: Sequence[float], seed: int, settings: dict[str, Any]) -> None:
        """Prune at every rate that is not in the results yet, and record the figures."""
        done = {(x["task"], x["variant"], x["rate"], x["seed"]) for x in read_results(self.results)}
        source = flatten_pairs(self.train) if self.task == "stsb" else self.train
        texts, _ = split_examples(source, 1000, 200, seed)
        with tempfile.TemporaryDirectory() as journal:  # curves serve every rate
            for rate in rates:
                if (self.task, variant, rate, seed) in done:
                    continue
                checkpoint = load_checkpoint(self.model)
                start = time.perf_counter()
                asked = PruningSettings(flops_reduction=rate, seed=seed, **settings)
                try:
                    plan = prune_checkpoint(checkpoint, texts, asked, journal_folder=Path(journal))
                except BudgetError as error:  # kcm2023 keeps all heads
                    print(f"{self.task} {variant} {rate:.0%}: {error}", flush=True)
                    continue
                seconds = time.perf_counter() - start
                student = outputs(checkpoint, self.texts)
                counted = torch.ones(len(student), 1)
                divergence = checkpoint.task.divergence(student, self.teacher, counted).double()
                row = {
                    "task": self.task,
                    "variant": variant,
                    "rate": rate,
                    "seed": seed,
                    "divergence": float(divergence.mean()),
                    "metric": metric_of(self.task, self.dev, student),
                    "dense_metric": self.dense_metric,
                    "seconds": seconds,
                    "widths": [(len(x.heads), len(x.neurons)) for x in plan.layers],
                }
                with self.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(
                    f"{self.task} {variant} {rate:.0%} seed {seed}: divergence {row['divergence']:.4f}, "
                    f"metric {row['metric']:.2f}, {seconds:.0f} s",
                    flush=True,
                )


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return the rows measured so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def cells(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Yield task, rate and the mean and spread over the seeds of every variant."""
    grouped: dict[tuple[str, float], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        grouped[row["task"], row["rate"]][row["variant"]].append(row)
    for (task, rate), variants in sorted(grouped.items(), key=lambda item: (TASKS.index(item[0][0]), item[0][1])):
        yield task, rate, variants


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print divergence and metric of every cell, mean ± standard deviation over the seeds, as Markdown."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    print("| task | removed | " + " | ".join(variants) + " |\n|---|---" + "|---" * len(variants) + "|")
    for task, rate, found in cells(rows):
        shown = []
        for variant in variants:
            measured = found.get(variant)
            if not measured:
                shown.append("")
                continue
            moved, metric = ([x[key] for x in measured] for key in ("divergence", "metric"))
            spread = f" ± {np.std(metric, ddof=1):.2f}" if len(metric) > 1 else ""
            shown.append(f"{np.mean(moved):.4f}, {np.mean(metric):.2f}{spread}")
        print(
            f"| {task} (dense {next(iter(found.values()))[0]['dense_metric']:.2f}) | {rate:.0%} | "
            + " | ".join(shown)
            + " |"
        )
    for variant in variants[1:]:
        ratios, gains = [], defaultdict(list)
        for _, rate, found in cells(rows):
            if variant in found and variants[0] in found:
                ours, theirs = (found[x] for x in (variants[0], variant))
                ratios.append(np.mean([x["divergence"] for x in ours]) / np.mean([x["divergence"] for x in theirs]))
                gains[rate].append(np.mean([x["metric"] for x in ours]) - np.mean([x["metric"] for x in theirs]))
        by_rate = ", ".join(f"{rate:.0%} {np.mean(values):+.2f}" for rate, values in gains.items())
        print(
            f"\n{variants[0]} against {variant}: divergence {np.exp(np.mean(np.log(ratios))):.2f} times "
            f"(geometric mean of {len(ratios)} cells), metric {by_rate} points"
        )


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    for task in TASKS:
        parser.add_argument(f"--{task}", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rates", default="0.5,0.6,0.7,0.8")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--variants", default="kprune;kprune-paper", help=f"separated by semicolons: {'; '.join(METHODS)}"
    )
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()

    rates = [float(rate) for rate in options.rates.split(",")]
    for seed in [] if options.table else [int(seed) for seed in options.seeds.split(",")]:
        for task in TASKS:
            if getattr(options, task) is None:
                continue
            bench = Bench(task, getattr(options, task), options.data, options.results)
            if options.ablation:
                for variant, (settings, patch) in ABLATIONS.items():
                    with patch():
                        bench.run(variant, rates, seed, settings)
                continue
            for variant in options.variants.split(";"):
                settings = dict(METHODS[variant])
                if "fitted" in variant:
                    settings["balance"] = FITTED_BALANCE[task]
                bench.run(variant, rates, seed, settings)
    print_table(read_results(options.results))


if __name__ == "__main__":
    main()
