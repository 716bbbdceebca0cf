"""The client of the examples, on a real server."""

import subprocess
import sys
from pathlib import Path

from project_root import ROOT

from kprune_export.triton.server import running_server

CLIENT = ROOT / "examples" / "03-triton" / "client.py"


def test_the_client_prints_a_label_for_each_text(server: str, classifier_repository: Path) -> None:
    with running_server(classifier_repository, server, []) as endpoints:
        done = subprocess.run([sys.executable, CLIENT, endpoints.http], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["a good film", "a dull one"]
    assert all(0 <= float(line.rpartition("(")[2].rstrip(")")) <= 1 for line in done.stdout.splitlines())
