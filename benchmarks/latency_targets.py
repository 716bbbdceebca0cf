"""Asked, predicted, trial-timed and measured speedups, and fidelity beside a FLOPs budget of the same latency.

    python benchmarks/latency_targets.py RESULTS --model NAME=MODEL --texts TRAIN --held-out DEV
    python benchmarks/latency_targets.py RESULTS --table

For every shape, precision and speedup: search and time trials, prune to the widths found, export, and time the
finished model in turn with the dense one in the same precision. Beside it a plan with a FLOPs budget, limited to the
time that was measured, by finished models as well, and pruned with the same texts. Fidelity is the mean cosine of
dense and pruned embeddings (or agreement of labels) on the held-out texts, by torch in fp32; the difference of the
two plans' is given with its standard error over these texts. RESULTS is a JSON-lines file; a cell that is in it is
not measured again. Run it on a machine that does nothing else.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from quality import outputs

from exporters.machine.description import describe_machine
from exporters.runners.base import Feeds
from exporters.runners.onnxruntime_runner import share_thread_pool
from exporters.spec import Shape
from exporters.timing.latency import TimingSettings
from exporters.timing.latency_table.table import LatencyTable, Widths
from exporters.variant import Precision, Runtime, Variant
from kprune_export.latency_target.profile import profile_target
from kprune_export.latency_target.request import default_alignment
from kprune_export.latency_target.search import TimeSearch
from kprune_export.latency_target.target_record import LatencyTarget, TargetRecord, TargetShape
from kprune_export.latency_target.timed_models import OnnxModels
from kprune_export.latency_target.trial_timing import TrialTimings, trial_timings
from kprune_export.model_export import feeds_of
from pruning import EncoderCheckpoint, PruningSettings, load_checkpoint, prune_checkpoint, sensitivity_of
from pruning.calibration.examples import flatten_pairs, read_examples, split_examples
from pruning.flops import budget_flops
from pruning.methods.kprune.method import widths_under
from pruning.methods.kprune.sensitivity import SensitivityCurve
from pruning.plan import EncoderShape, PruningPlan

TIMING = TimingSettings()


def fidelity(dense: torch.Tensor, pruned: torch.Tensor, *, embeds: bool) -> torch.Tensor:
    """Return the cosine of each text's embeddings, or 1 where its label is the same and 0 where not: (texts,)."""
    if embeds:
        return torch.nn.functional.cosine_similarity(dense, pruned).double()
    return (dense.argmax(-1) == pruned.argmax(-1)).double()


@dataclass(frozen=True)
class FlopsSearch(TimeSearch):
    """The widths of the largest FLOPs budget that the table says takes at most a share of the dense model's time.

    Args:
        shape: the dense encoder's.
        tokens: the sequence length that FLOPs are counted at.
        correction: by which the table's predictions are to be multiplied, as another finished model has shown.

    """

    shape: EncoderShape
    tokens: int
    correction: float

    def predicted_share(self, widths: Widths) -> float:
        """Return the corrected share of the dense model's time."""
        return self.correction * super().predicted_share(widths)

    def find(self, share: float) -> tuple[tuple[int, int], ...]:
        """Return them."""
        costs = self.shape.unit_costs(self.tokens)
        units = (costs.head, costs.neuron) * self.shape.layers
        whole = self.shape.layers * (self.shape.heads * costs.head + self.shape.neurons * costs.neuron)

        def widths(reduction: float) -> tuple[tuple[int, int], ...]:
            flat = widths_under(self.curves, units, budget_flops(whole, reduction))
            return tuple(zip(flat[::2], flat[1::2], strict=True))

        low, high = 0, 1000  # in thousandths
        while high - low > 1:
            middle = (low + high) // 2
            fits = self.predicted_share(widths(middle / 1000)) <= share
            low, high = (low, middle) if fits else (middle, high)
        return widths(high / 1000)


class Validated(NamedTuple):
    """What a finished model came to: its share of the dense model's time, and its fidelity on each held-out text."""

    share: float
    fidelity: torch.Tensor


class Bench:
    """One model in one precision: its table, its curves, and the results file."""

    def __init__(self, name: str, folder: Path, precision: str, options: argparse.Namespace) -> None:
        self.name, self.folder, self.options = name, folder, options
        self.load = partial(load_checkpoint, folder)
        self.dense = self.load()
        self.embeds = self.dense.pooled_by is not None
        texts, held_out = (read_examples(path) for path in (options.texts, options.held_out))
        if self.embeds:
            texts, held_out = flatten_pairs(texts), flatten_pairs(held_out)
        self.texts, _ = split_examples(texts, options.samples, 200, 0)
        self.held_out = held_out[: options.held_out_texts]
        self.teacher = outputs(self.dense, self.held_out)
        self.precision = Precision(precision)
        feeds: tuple[Feeds, ...] = ()
        if self.precision is Precision.INT8:
            feeds = feeds_of(self.dense, self.texts)
        variant = Variant(Runtime.ONNXRUNTIME, self.precision)
        self.models = OnnxModels(self.load, variant, options.threads, feeds)
        self.align = default_alignment(self.precision)
        self.table = self._table([Shape.parse(x) for x in options.shapes.split(",")])
        self.curves = self._curves()

    def _table(self, shapes: Sequence[Shape]) -> LatencyTable:
        path = self.options.results.with_suffix(f".{self.name}-{self.precision}.table.json")
        if not path.exists():
            start = time.perf_counter()
            threads, machine = self.options.threads, describe_machine()
            table = profile_target(self.dense, self.models, shapes, self.align, threads, machine)
            table.write(path)
            print(f"{self.name} {self.precision}: table in {time.perf_counter() - start:.0f} s")
            for x in table.shapes:
                errors = ", ".join(f"{check.error:+.1%}" for check in x.checks)
                print(
                    f"  {x.shape}: dense {x.dense_ms:.2f} ms, fixed {x.fixed:.1%}, sums off by {errors}, A/A {x.noise}"
                )
        return LatencyTable.read(path)

    def _curves(self) -> tuple[SensitivityCurve, ...]:
        journal = self.options.results.with_suffix(f".{self.name}.curves")
        return sensitivity_of(self.load(), self.texts, PruningSettings(), journal_folder=journal)

    def run(self, shape: str, speedup: float) -> dict[str, Any]:
        """Meet one target, and see what a FLOPs budget of the same latency gives."""
        target = LatencyTarget(speedup=speedup, latency_ms=None, shapes=(TargetShape(shape=shape, weight=1.0),))
        tokens, encoder = Shape.parse(shape).sequence, self.dense.open().shape
        with trial_timings(self.models, target, self.dense, TIMING) as timed:
            search = TimeSearch(target, self.table, self.curves, self.align)
            record, asked = self._met(timed, search, lambda widths: timed.of_widths(widths).share)
            row = {
                "model": self.name,
                "precision": self.precision.value,
                "shape": shape,
                "asked": speedup,
                "predicted": 1 / record.rounds[0].predicted_share,
                "first_trial": 1 / (record.rounds[0].measured_share or 1),
                "finished": [1 / x.finished_share for x in record.rounds if x.finished_share],
                "rounds": len(record.rounds),
                "measured": 1 / asked.share,
                "search_s": record.search_s,
                "fidelity": float(asked.fidelity.mean()),
                "loss": record.taken.loss,
                "widths": record.taken.widths,
            }
            if self.options.without_flops:
                return row
            same = target.model_copy(update={"speedup": 1 / asked.share})
            correction = asked.share / record.taken.predicted_share
            flops_search = FlopsSearch(same, self.table, self.curves, self.align, encoder, tokens, correction)
            other, by_flops = self._met(timed, flops_search, None)
        gain = asked.fidelity - by_flops.fidelity
        return row | {
            "flops_measured": 1 / by_flops.share,
            "flops_fidelity": float(by_flops.fidelity.mean()),
            "flops_loss": other.taken.loss,
            "gain_error": float(gain.std() / len(gain) ** 0.5),
            "flops_widths": other.taken.widths,
        }

    def _met(
        self, timed: TrialTimings, search: TimeSearch, time_trial: Callable[[Widths], float] | None
    ) -> tuple[TargetRecord, Validated]:
        """Search, prune and correct as a run does, then validate what is taken."""
        made: dict[Widths, tuple[EncoderCheckpoint, PruningPlan]] = {}

        def finish(widths: Widths) -> float:
            checkpoint = self.load()
            plan = prune_checkpoint(checkpoint, self.texts, PruningSettings(widths=tuple(widths)))
            made[widths] = checkpoint, plan
            return timed.of_finished(checkpoint, plan, search.asked_share).share

        if time_trial is None and self.options.one_flops_budget:
            record = search.run(None, "onnxruntime")
            finish(record.taken.widths)
        else:
            record = search.meet(time_trial, finish, "onnxruntime")
        checkpoint, plan = made[record.taken.widths]
        share = timed.of_finished(checkpoint, plan, None).share
        return record, Validated(share, fidelity(self.teacher, outputs(checkpoint, self.held_out), embeds=self.embeds))


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print all cells as a Markdown table, and how many are within 3 %."""
    columns = ("model", "precision", "shape", "asked", "first trial, for table", "finished models", "validated", "off")
    print(
        "| " + " | ".join((*columns, "fidelity", "FLOPs budget", "gain")) + " |\n" + "|---" * (len(columns) + 3) + "|"
    )
    for x in rows:
        beside = " | |"
        if "flops_fidelity" in x:
            gain = f"{x['fidelity'] - x['flops_fidelity']:+.4f} ± {x['gain_error']:.4f}"
            beside = f"{x['flops_fidelity']:.4f} at {x['flops_measured']:.2f} | {gain} |"
        print(
            f"| {x['model']} | {x['precision']} | {x['shape']} | {x['asked']:.2f} | {x['first_trial']:.2f} for "
            f"{x['predicted']:.2f} | {', '.join(f'{y:.2f}' for y in x['finished'])} | {x['measured']:.2f} | "
            f"{x['measured'] / x['asked'] - 1:+.1%} | {x['fidelity']:.4f} | {beside}"
        )
    if rows:
        errors = np.array([x["measured"] / x["asked"] - 1 for x in rows])
        gains = [x["fidelity"] - x["flops_fidelity"] for x in rows if "flops_fidelity" in x]
        print(
            f"\n{(np.abs(errors) <= 0.03).sum()} of {len(rows)} within 3 % of what was asked, largest error "
            f"{np.abs(errors).max():.1%}; fidelity at least that of the FLOPs budget in {sum(x >= 0 for x in gains)} "
            f"of {len(gains)}; searches took at most {max(x['search_s'] for x in rows):.2f} s"
        )


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--held-out-texts", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--shapes", default="1x128,8x128")
    parser.add_argument("--precisions", default="fp32,int8")
    parser.add_argument("--speedups", default="1.5,2,3")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--without-flops", action="store_true", help="only meet the targets; such cells count as measured"
    )
    parser.add_argument(
        "--one-flops-budget", action="store_true", help="prune one FLOPs budget, whatever its finished model takes"
    )
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()

    def rows() -> list[dict[str, Any]]:
        lines = options.results.read_text().splitlines() if options.results.exists() else []
        return [json.loads(line) for line in lines]

    share_thread_pool(options.threads)
    torch.set_num_threads(options.threads)
    for model in [] if options.table else options.model:
        name, folder = model.split("=", 1)
        for precision in options.precisions.split(","):
            cells = [(shape, float(s)) for shape in options.shapes.split(",") for s in options.speedups.split(",")]
            done = {(x["shape"], x["asked"]) for x in rows() if (x["model"], x["precision"]) == (name, precision)}
            missing = [cell for cell in cells if cell not in done]
            bench = Bench(name, Path(folder), precision, options) if missing else None
            for shape, speedup in missing if bench else ():
                start = time.perf_counter()
                row = bench.run(shape, speedup)  # type: ignore[union-attr]  # there is one where something is missing
                with options.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                seconds = time.perf_counter() - start
                print(
                    f"{name} {precision} {shape} {speedup:g}: measured {row['measured']:.3f}, fidelity "
                    f"{row['fidelity']:.4f} ({row.get('flops_fidelity', float('nan')):.4f} by FLOPs); {seconds:.0f} s",
                    flush=True,
                )
    print_table(rows())


if __name__ == "__main__":
    main()
