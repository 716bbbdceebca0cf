"""Fidelity before and after recovery, by the share of FLOPs that is removed and by the tokens that are trained on.

    python benchmarks/recovery.py RESULTS --model NAME=MODEL --texts TRAIN --evaluation DEV [--reductions 0.5,0.8,0.9]
    python benchmarks/recovery.py RESULTS --table

For each share the model is pruned by the default method, measured on DEV, recovered with the unlabelled texts of TRAIN
that are not in DEV, and measured again, by torch in fp32. RESULTS is a JSON-lines file; a row that is in it is not
measured again. ``--settings`` tries other settings of a recovery: ``hidden_weight=0;learning_rate=5e-4``. Seconds
are of this machine; their ratio within a row is what counts.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from kprune_export.pipeline.job import Job, prepare_job
from kprune_export.recipe.recipe import Recipe
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.prune import prune_checkpoint
from pruning.recovery.loss import activations
from pruning.recovery.settings import RecoverySettings
from pruning.recovery.train import recover


@torch.no_grad()
def measure(job: Job, pruned: EncoderCheckpoint, dense: EncoderCheckpoint) -> dict[str, float]:
    """Return the mean divergence, the headline of fidelity, and the task's metric where there is one."""
    evaluation, divergences = job.evaluation(), []
    student, teacher = pruned.open(), dense.open()
    for batch in evaluation.batches(job.recipe.seed):
        found, target = activations(student, batch), activations(teacher, batch)
        divergences.append(student.divergence(found.output, target.output, found.context, 1.0).double())
        served = []
        for checkpoint, adapter, x in ((dense, teacher, target), (pruned, student, found)):
            head = checkpoint.head(adapter.finish(x.hidden[-1]), batch.attention_mask)
            tensors = head if isinstance(head, tuple) else (head,)
            names = (output.name for output in checkpoint.task.outputs)
            served.append({name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)})
        evaluation.add(batch, *served)
    headline = evaluation.fidelity()[0]
    metrics = {f"{x.name}": x.pruned for x in evaluation.metrics()[:1]}
    dense_metrics = {f"dense_{x.name}": x.dense for x in evaluation.metrics()[:1]}
    return {
        "divergence": float(torch.cat(divergences).mean()),
        headline.name: headline.value,
        **metrics,
        **dense_metrics,
    }


def rows(options: argparse.Namespace, done: set[str]) -> Iterator[dict[str, Any]]:
    """Prune, recover and measure."""
    name, _, model = options.model.partition("=")
    changed = dict(x.split("=", 1) for x in options.settings.split(";") if x)
    for share in map(float, options.reductions.split(",")):
        for tokens in map(int, options.tokens.split(",")):
            settings = RecoverySettings.model_validate({"tokens": tokens, **changed})
            key = f"{name} {share} {settings.model_dump_json()}"
            if key in done:
                continue
            recipe = Recipe.build(
                None,
                {
                    "model": model, "output": "unused", "calibration": options.texts, "evaluation": options.evaluation,
                    "flops_reduction": share, "shapes": "1x1", "samples": options.samples, "recover": "on",
                },
            )  # fmt: skip
            job = prepare_job(recipe, prunes=True, exports=False, measures=True)
            student, dense = job.source, job.source.reload()
            start = time.perf_counter()
            prune_checkpoint(student, job.calibration, recipe.pruning)
            pruning_s = time.perf_counter() - start
            before = measure(job, student, dense)
            start = time.perf_counter()
            record = recover(student, dense, job.recovery, settings)
            yield {
                "key": key, "model": name, "share": share, "settings": changed, "tokens": record.tokens,
                "texts": record.texts, "before": before, "after": measure(job, student, dense),
                "pruning_s": pruning_s, "recovery_s": time.perf_counter() - start, "reason": record.reason,
            }  # fmt: skip


def table(found: list[dict[str, Any]]) -> str:
    """Return a table as Markdown."""
    lines = [
        "| model | removed | settings | tokens | figure | pruned | recovered | dense | pruning, recovery, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        settings = ", ".join(f"{k} {v}" for k, v in row["settings"].items()) or "default"
        for figure in row["before"]:
            if figure.startswith("dense_"):
                continue
            dense = row["before"].get(f"dense_{figure}")
            of_dense = "" if dense is None else f"{dense:.4f}"
            lines.append(
                f"| {row['model']} | {row['share']:.0%} | {settings} | {row['tokens']:,} | {figure.replace('_', ' ')} "
                f"| {row['before'][figure]:.4f} | {row['after'][figure]:.4f} | {of_dense} "
                f"| {row['pruning_s']:.0f}, {row['recovery_s']:.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--texts")
    parser.add_argument("--evaluation")
    parser.add_argument("--reductions", default="0.5,0.8,0.9")
    parser.add_argument("--tokens", default="300000")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--settings", default="")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    lines = options.results.read_text(encoding="utf-8").splitlines() if options.results.exists() else []
    found = [json.loads(line) for line in lines]
    if options.table:
        print(table(found))
        return
    for row in rows(options, {row["key"] for row in found}):
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(table([row]))


if __name__ == "__main__":
    main()
