"""Kill a run at random moments, run it again, and compare with a run that was left alone.

    python benchmarks/kill_and_rerun.py MODEL TEXTS --kills 5

Every run is ``kprune-export prune-and-build MODEL --calibration TEXTS`` at a small setting. After each
``kill -9`` the same command runs to its end; its manifest has to list the same hashes for every reproducible
file as the undisturbed run's. With ``--fork`` the runs are forked from a process that has the imports behind it, so
that the kills fall into the work.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def command(options: argparse.Namespace, output: Path) -> list[str]:
    """Return the command line of one run."""
    return [
        sys.executable, "-m", "kprune_export", "prune-and-build", options.model, "--output", str(output),
        "--calibration", options.texts, "--samples", str(options.samples), "--shapes", "1x32", "--timing-seconds", "1",
    ]  # fmt: skip


def start(options: argparse.Namespace, output: Path) -> int:
    """Start a run without output and return its process id."""
    whole = command(options, output)
    if not options.fork:
        return subprocess.Popen(whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        from kprune_export.cli.app import main

        sys.argv = ["kprune-export", *whole[3:]]
        main()
    except SystemExit as ending:
        code = int(ending.code or 0)
    finally:
        os._exit(code)


def finish(options: argparse.Namespace, output: Path) -> None:
    """Run to the end.

    Raises:
        RuntimeError: the run failed.

    """
    _, status = os.waitpid(start(options, output), 0)
    if status:
        raise RuntimeError(f"a run into {output} ended with status {status}")


def wait(pid: int, seconds: float) -> bool:
    """Wait so long for a process and return whether it ended."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.01)
    return False


def preload() -> None:
    """Import what a run imports."""
    import onnxscript  # noqa: F401
    import torch.onnx  # noqa: F401
    import transformers.models.bert.modeling_bert  # noqa: F401

    import kprune_export.cli.running
    import kprune_export.pipeline.run  # noqa: F401


def hashes(output: Path) -> dict[str, str]:
    """Return the hashes of a bundle's reproducible files."""
    files = json.loads((output / "manifest.json").read_text(encoding="utf-8"))["files"]
    return {file["path"]: file["sha256"] for file in files if file["reproducible"]}


def stage_of(output: Path) -> str:
    """Say what a killed run had finished."""
    work = output / ".kprune-export"
    stages = sorted(path.stem for path in work.glob("run-*/stages/*.json"))
    sublayers = len(list(work.glob("run-*/scratch/prune/*.safetensors")))
    return f"{', '.join(stages) or 'no stage'} and {sublayers} sublayers finished"


def main() -> int:
    """Run the comparison; the exit code is 1 if any hash differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("texts")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--fork", action="store_true", help="fork the runs from one process")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        if options.fork:
            preload()
        begin = time.perf_counter()
        finish(options, Path(temporary) / "whole")
        duration = time.perf_counter() - begin
        expected = hashes(Path(temporary) / "whole")
        print(f"undisturbed: {duration:.0f} s, {len(expected)} reproducible files")
        same, interrupted = True, 0
        for number in range(options.kills):
            output = Path(temporary) / f"killed-{number}"
            moment = chance.uniform(0.02 if options.fork else 0.15, 0.98) * duration
            run = start(options, output)
            if not wait(run, moment):
                os.kill(run, signal.SIGKILL)
                os.waitpid(run, 0)
                interrupted += 1
            reached = stage_of(output)
            finish(options, output)
            equal = hashes(output) == expected
            same &= equal
            print(f"killed after {moment:.1f} s ({reached}), run again: {'same hashes' if equal else 'HASHES DIFFER'}")
        print(f"{interrupted} of {options.kills} runs were killed before they ended")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
