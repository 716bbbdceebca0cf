"""How long pruning takes by how OpenMP's waiting threads wait, alone and with busy processes beside it.

    python benchmarks/wait_policy.py MODEL [--rounds 3] [--samples 20] [--spins 10000,40000]

Prunes MODEL by half on sentences from docstrings, in a fresh process for each run, with the policy that the command
line chooses, with GNU OpenMP's default, with OMP_WAIT_POLICY=PASSIVE, and with any other GOMP_SPINCOUNT asked for: once
alone, and once with a process on each processor that never rests. A round has all of them, in an order that changes
from round to round. Times are those of pruning alone; all are divided by the time of the default, idle, of the same
round, so that a machine that changes its pace between rounds changes both. Prints the medians over rounds, with the
least and the greatest in brackets. With as many busy processes as processors a fair half is 2 times as long.
"""

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from exporters.machine.description import describe_machine
from kprune_export.waiting import POLICY_VARIABLE, SPIN_VARIABLE, choose_waiting

DEFAULT = "GNU OpenMP's default"
PROGRAM = """
import sys, time
from pruning import PruningSettings, load_checkpoint, prune_checkpoint
from pruning.calibration.docstrings import docstring_examples
import torch

torch.set_num_threads(int(sys.argv[3]))
model = load_checkpoint(sys.argv[1])
texts = docstring_examples(int(sys.argv[2]), 0)
start, cpu = time.perf_counter(), time.process_time()
prune_checkpoint(model, texts, PruningSettings(flops_reduction=0.5))
print(time.perf_counter() - start, time.process_time() - cpu)
"""


def policies(spins: Sequence[int]) -> dict[str, Mapping[str, str]]:
    """Return the variables of each policy, by its name."""
    chosen: dict[str, str] = {}
    choose_waiting(chosen)
    return {
        DEFAULT: {},
        "the command line's": {SPIN_VARIABLE: chosen[SPIN_VARIABLE]},
        f"{POLICY_VARIABLE}=PASSIVE": {POLICY_VARIABLE: "PASSIVE"},
        **{f"{SPIN_VARIABLE}={count}": {SPIN_VARIABLE: str(count)} for count in spins},
    }


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep processes beside what runs in the context that never rest."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def prune(options: argparse.Namespace, policy: Mapping[str, str]) -> tuple[float, float]:
    """Prune in a fresh process, and return the seconds that it took and those of its processors' time."""
    plain = {name: value for name, value in os.environ.items() if name not in (POLICY_VARIABLE, SPIN_VARIABLE)}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, options.model, str(options.samples), str(options.threads)],
        env={**plain, **policy},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    wall, cpu = map(float, run.stdout.split()[-2:])
    return wall, cpu


def spread(values: Sequence[float]) -> str:
    """Return the median of rounds, with the least and the greatest."""
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure all rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--spins", default="", help="other spin counts to measure, with commas between them")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    tried = policies([int(text) for text in options.spins.split(",") if text])
    machine = describe_machine()
    print(f"{options.threads} threads, {machine.cpu_model}, load {machine.load_1min} at the start.\n", flush=True)
    found: dict[tuple[str, bool], list[tuple[float, float]]] = {(name, x): [] for name in tried for x in (False, True)}
    names = list(tried)
    for number in range(options.rounds):
        turn = number % len(names)
        for busy in (False, True):
            with busy_processes(options.threads if busy else 0):
                for name in names[turn:] + names[:turn]:
                    found[name, busy].append(prune(options, tried[name]))
                    print(f"round {number}, {name}, {'busy' if busy else 'idle'}: {found[name, busy][-1]}", flush=True)
    baseline = [wall for wall, _ in found[DEFAULT, False]]
    print("\n| waiting threads | idle | with busy processes | processors' time, idle | processors' time, busy |")
    print("|---|---|---|---|---|")
    for name in names:
        cells = [
            spread([pair[part] / whole for pair, whole in zip(found[name, busy], baseline, strict=True)])
            for part in (0, 1)
            for busy in (False, True)
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
