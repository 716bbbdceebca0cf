"""Whether timing two models beside each other changes what is measured: against each model completely alone.

    python benchmarks/isolation.py MODEL TEXTS [--rate 0.5] [--shapes 1x128,8x128] [--seconds 3] [--rounds 5]

Prunes MODEL, writes it and the dense one for ONNX Runtime's CPU provider, and times both in three ways: taking turns in
one process with a shared thread pool, as is done by default; taking turns in processes of their own, as with --isolate;
and each in a fresh process while there is no other. A round has all three at every shape, in an order that changes from
round to round, so that they see the same machine. Prints the medians over rounds, with the least and the greatest of a
ratio's rounds in brackets; ``of alone`` is how many times as long as alone a model takes, and how many times as large
the speedup is. Where no model disturbs the other all of these are 1.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from exporters.inputs import synthetic_inputs
from exporters.machine.cpu_quota import usable_cpus
from exporters.machine.description import describe_machine
from exporters.onnx.export import exported_graph
from exporters.onnx.write import write_variant
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner, share_thread_pool
from exporters.spec import ModelSpec, Shape
from exporters.timing.isolation import PLACE, IsolatedRunner, IsolatedTimer
from exporters.timing.latency import LatencyReport, Measured, TimingSettings, measure_latency
from exporters.timing.timers import HostClock
from exporters.variant import REFERENCE
from kprune_export.model_export import model_spec
from pruning import PruningSettings, ServingModule, load_checkpoint, prune_checkpoint
from pruning.calibration.examples import flatten_pairs, read_examples, split_examples

TOGETHER, ISOLATED, ALONE = "one process, shared pool", "processes of their own (--isolate)", "completely alone"


@dataclass(frozen=True)
class Found:
    """The two models' median times at one shape, and their ratio."""

    dense_ms: float
    pruned_ms: float
    speedup: float


@dataclass(frozen=True)
class Bench:
    """The two models, and how they are timed."""

    dense: Path
    pruned: Path
    spec: ModelSpec
    subject: Measured
    settings: TimingSettings
    threads: int

    def opener(self, path: Path) -> Callable[[], OnnxRuntimeRunner]:
        """Return what opens a model here or in another process."""
        return partial(OnnxRuntimeRunner, path, self.threads, timed=True)

    def together(self, shape: Shape) -> Found:
        """Have both take turns in this process."""
        with self.opener(self.dense)() as dense, self.opener(self.pruned)() as pruned:
            return _found(measure_latency(dense, pruned, self.spec, [shape], self.subject, TOGETHER, self.settings))

    def isolated(self, shape: Shape) -> Found:
        """Have both take turns in processes of their own."""
        timer = IsolatedTimer(HostClock())
        with self._process(self.dense) as dense, self._process(self.pruned) as pruned:
            report = measure_latency(dense, pruned, self.spec, [shape], self.subject, PLACE, self.settings, timer=timer)
        return _found(report)

    def alone(self, shape: Shape) -> Found:
        """Time each while the other is not there."""
        dense, pruned = (self._alone(path, shape) for path in (self.dense, self.pruned))
        return Found(dense, pruned, dense / pruned)

    def _process(self, path: Path) -> IsolatedRunner:
        return IsolatedRunner(self.opener(path), self.threads)

    def _alone(self, path: Path, shape: Shape) -> float:
        with self._process(path) as runner:
            runner.prepare(synthetic_inputs(self.spec, shape))
            seconds: list[float] = []
            warm = 0.0
            while warm < self.settings.warmup_s:
                warm += sum(runner.block(1, wake=False).seconds)
            while sum(seconds) < self.settings.seconds:
                seconds += runner.block(8, wake=False).seconds
        return 1000 * float(np.median(seconds))


def _found(report: LatencyReport) -> Found:
    (shape,) = report.shapes
    return Found(shape.dense.p50_ms, shape.pruned.p50_ms, shape.speedup)


def write_models(model: str, texts: str, rate: float, samples: int, folder: Path) -> tuple[Path, Path, ModelSpec]:
    """Write the dense and the pruned model, and return their files and inputs."""
    examples, _ = split_examples(flatten_pairs(read_examples(texts)), samples, 0, 0)
    files = []
    for name in ("dense", "pruned"):
        checkpoint = load_checkpoint(model)
        if name == "pruned":
            prune_checkpoint(checkpoint, examples, PruningSettings(flops_reduction=rate))
        spec = model_spec(checkpoint, {})
        (folder / name).mkdir()
        write_variant(exported_graph(ServingModule(checkpoint).eval(), spec), spec, REFERENCE, folder / name)
        files.append(folder / name / REFERENCE.file_name)
    return files[0], files[1], spec


def spread(values: Sequence[float]) -> str:
    """Return the median of rounds, with the least and the greatest."""
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure all rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("texts")
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--shapes", default="1x128,8x128")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--threads", type=int, default=usable_cpus())
    options = parser.parse_args()
    share_thread_pool(options.threads)
    shapes = [Shape.parse(text) for text in options.shapes.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        dense, pruned, spec = write_models(options.model, options.texts, options.rate, options.samples, Path(folder))
        sizes = [path.stat().st_size for path in (dense, pruned)]
        subject = Measured(
            dense_bytes=sizes[0], pruned_bytes=sizes[1], threads=options.threads, machine=describe_machine()
        )
        settings = TimingSettings(seconds=options.seconds)
        bench = Bench(dense, pruned, spec, subject, settings, options.threads)
        ways = [(TOGETHER, bench.together), (ISOLATED, bench.isolated), (ALONE, bench.alone)]
        found: dict[tuple[Shape, str], list[Found]] = {(shape, name): [] for shape in shapes for name, _ in ways}
        for number in range(options.rounds):
            turn = number % len(ways)
            for shape in shapes:
                for name, measure in ways[turn:] + ways[:turn]:
                    found[shape, name].append(measure(shape))
    print(f"{options.threads} threads, {subject.machine.cpu_model}, load {subject.machine.load_1min} at the start.\n")
    print(
        "| shape | measured | dense, ms | pruned, ms | speedup | dense of alone | pruned of alone | speedup of alone |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for (shape, name), rounds in found.items():
        pairs = list(zip(rounds, found[shape, ALONE], strict=True))
        cells = [
            f"{np.median([x.dense_ms for x in rounds]):.2f}",
            f"{np.median([x.pruned_ms for x in rounds]):.2f}",
            spread([x.speedup for x in rounds]),
        ]
        if name != ALONE:
            cells += [
                spread([x.dense_ms / alone.dense_ms for x, alone in pairs]),
                spread([x.pruned_ms / alone.pruned_ms for x, alone in pairs]),
                spread([x.speedup / alone.speedup for x, alone in pairs]),
            ]
        else:
            cells += ["1", "1", "1"]
        print(f"| {shape} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
