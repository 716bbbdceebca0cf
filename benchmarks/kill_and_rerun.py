"""Kill a run at random moments, run it again, and compare with a run that was left alone.

    python benchmarks/kill_and_rerun.py MODEL TEXTS --kills 5

Every run is ``kprune-export prune-and-build MODEL --calibration TEXTS`` at a small setting. After each
``kill -9`` the same command runs to its end; its manifest has to list the same hashes for every reproducible
file as the undisturbed run's.
"""

import argparse
import json
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


def hashes(output: Path) -> dict[str, str]:
    """Return the hashes of a bundle's reproducible files."""
    files = json.loads((output / "manifest.json").read_text(encoding="utf-8"))["files"]
    return {file["path"]: file["sha256"] for file in files if file["reproducible"]}


def stage_of(output: Path) -> str:
    """Say what a killed run had finished."""
    work = output / ".kprune-export"
    stages = sorted(path.stem for path in work.glob("stages/*.json"))
    sublayers = len(list(work.glob("scratch/prune/*.safetensors")))
    return f"{', '.join(stages) or 'no stage'} and {sublayers} sublayers finished"


def main() -> int:
    """Run the comparison; the exit code is 1 if any hash differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("texts")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        start = time.perf_counter()
        subprocess.run(command(options, Path(temporary) / "whole"), check=True, capture_output=True)
        duration = time.perf_counter() - start
        expected = hashes(Path(temporary) / "whole")
        print(f"undisturbed: {duration:.0f} s, {len(expected)} reproducible files")
        same = True
        for number in range(options.kills):
            output = Path(temporary) / f"killed-{number}"
            moment = chance.uniform(0.15, 0.98) * duration
            run = subprocess.Popen(command(options, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                run.wait(moment)
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGKILL)
                run.wait()
            reached = stage_of(output)
            subprocess.run(command(options, output), check=True, capture_output=True)
            equal = hashes(output) == expected
            same &= equal
            print(f"killed after {moment:.1f} s ({reached}), run again: {'same hashes' if equal else 'HASHES DIFFER'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
