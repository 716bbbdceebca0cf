import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from project_root import ROOT

from pruning.methods.disk_store import Spill


def test_what_is_put_comes_back(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5),
        ("b", 1): torch.randn(4, 4, dtype=torch.float64).T,  # not contiguous
        "empty": torch.empty(0, 7),
        "whole": torch.arange(6).view(1, 2, 3),
    }
    with Spill(tmp_path) as spill:
        for key, tensor in tensors.items():
            spill.put(key, tensor)
        for key in reversed(tensors):
            found = spill.get(key)
            assert found.dtype == tensors[key].dtype
            assert torch.equal(found, tensors[key])
        assert list(tmp_path.iterdir()) == []  # it has no name


def test_a_later_tensor_takes_the_place_of_an_earlier_one() -> None:
    with Spill() as spill:
        spill.put("a", torch.zeros(2))
        spill.put("a", torch.ones(3))
        assert torch.equal(spill.get("a"), torch.ones(3))


def test_a_full_disk_is_named() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with Spill() as spill:
        os.dup2(os.open(full, os.O_RDWR), spill._file.fileno())
        with pytest.raises(OSError, match="No space left on device: '/"):
            spill.put("a", torch.zeros(1 << 16))


def test_nothing_is_left_by_a_process_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys, torch; from pruning.methods.disk_store import Spill;"
        "spill = Spill(pathlib.Path(sys.argv[1])); spill.put(0, torch.zeros(9)); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", program, tmp_path], cwd=ROOT, check=False)
    assert ended.returncode == -9
    assert list(tmp_path.iterdir()) == []
