"""Give damaged and hostile files, a thousand of each kind, to the commands that read them.

    python benchmarks/fuzz.py --examples 1000

Runs the tests test_fuzz*.py, which say what must hold, with that many examples and other ones each time.
At the end it says how often each kind of file was tried and with which exit codes it ended.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

TESTS = sorted((Path(__file__).parents[1] / "tests" / "kprune_export").rglob("test_fuzz*.py"))


def main() -> int:
    """Run the tests; the exit code is theirs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000, help="files of each kind")
    parser.add_argument("--kinds", default="", help="only tests whose names match, as pytest's -k takes it")
    options = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-q", "-s", "--tb=short", *map(str, TESTS), "-k", options.kinds]
    settings = {**os.environ, "KPRUNE_FUZZ_EXAMPLES": str(options.examples)}
    return subprocess.run(command, env=settings, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
