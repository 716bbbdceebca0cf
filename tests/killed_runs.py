"""Runs the command line in forks of one process, notes every part that a run keeps, and kills it at a given part.

    python tests/killed_runs.py

Each line of standard input is a run, as JSON: ``argv``, the command line's arguments; ``log``, a file to which the
path of every part is appended that the run keeps, from the folder of unfinished work on; ``kill``, a pair of the
beginning of such paths and of the number of parts with it after which the run is killed with SIGKILL, or null. Each
line of standard output is how a run ended, as `os.waitstatus_to_exitcode` tells it.

One process has the imports behind it, so that a run takes as long as its work.
"""

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def preload() -> None:
    """Import what a run imports, some of which is imported by the first export; no pool of threads may start here.

    Latency tables are measured in less time than by a real run: what they hold does not matter.
    """
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401
    import onnxruntime  # noqa: F401
    import torch
    import transformers.models.bert.modeling_bert  # noqa: F401

    import exporters.timing.latency_table.measure
    from exporters.timing.latency import TimingSettings

    exporters.timing.latency_table.measure.TIMING = TimingSettings(
        warmup_s=0.01, seconds=0.05, min_blocks=3, block_s=0.01
    )
    torch.set_num_threads(1)
    torch.onnx.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),), dynamo=True, verbose=False)


def watch_parts(log: Path, kill: list[Any] | None) -> None:
    """Note every part that is kept from now on, and kill this process after the last that it may keep."""
    from exporters.parts import FinishedParts
    from pruning.methods.journal import Journal

    left = [kill[1] if kill else 0]

    def watched(keep: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(keep)
        def keep_and_note(self: Any, name: str, *arguments: Any, **further: Any) -> None:
            keep(self, name, *arguments, **further)
            place = f"{self._folder}/{name}"
            for work in ("/scratch/", "/."):
                place = place.rpartition(work)[2] if work in place else place
            with log.open("a") as file:
                file.write(place + "\n")
            if kill and place.startswith(kill[0]):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        return keep_and_note

    FinishedParts._write = watched(FinishedParts._write)  # type: ignore[method-assign]
    Journal.save = watched(Journal.save)  # type: ignore[method-assign]


def run(order: dict[str, Any]) -> int:
    """Run the command line, and return its exit code."""
    from kprune_export.cli.app import main

    with Path(order["log"]).with_suffix(".out").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    watch_parts(Path(order["log"]), order["kill"])
    sys.argv = ["kprune-export", *order["argv"]]
    try:
        main()
    except SystemExit as ending:
        return int(ending.code or 0)
    return 0


def serve() -> None:
    """Carry out orders until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    preload()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = run(json.loads(line))
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    serve()
