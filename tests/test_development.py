"""What developers run: the Makefile's targets, and which tests are unit tests."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from unit_tests import is_unit

ROOT = Path(__file__).parents[1]


def make(*arguments: str) -> str:
    done = subprocess.run(["make", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_describes_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    declared = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert declared
    described = dict(re.findall(r"^make ([a-z-]+) +(.+)$", make("help"), re.MULTILINE))
    assert set(described) == set(declared.group(1).split()) - {"qemu"}  # which is no one's to run
    assert all(text[0].islower() for text in described.values())
    assert make() == make("help")


@pytest.mark.parametrize("target", ["test", "test-fast", "coverage"])
def test_one_test_can_be_named(target: str) -> None:
    assert "-k" not in make("--dry-run", target)
    assert "-k 'pareto and not front'" in make("--dry-run", target, "K=pareto and not front")


@pytest.mark.parametrize(
    ("source", "fixtures", "expected"),
    [
        ("import numpy\n", [], True),
        ("import numpy\n", ["tmp_path", "cli"], False),
        ("def test():\n    import subprocess\n", [], False),
        ("from exporters.onnx import export\n", [], False),
        ("from exporters.onnx.export import onnx_from_torch\n", [], False),
        ("from exporters.onnx.exporting import x\n", [], True),
    ],
)
def test_unit_tests_are_chosen_by_imports_and_fixtures(
    source: str, fixtures: list[str], expected: bool, tmp_path: Path
) -> None:
    class Item:
        path = tmp_path / "test_it.py"
        fixturenames = fixtures

    Item.path.write_text(source)
    item: Any = Item
    assert is_unit(item) is expected


def test_a_unit_test_that_starts_a_process_fails(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from unit_tests import ProcessGuard\n"
        "def pytest_configure(config):\n    config.pluginmanager.register(ProcessGuard())\n"
    )
    (tmp_path / "test_it.py").write_text(
        "def test_one():\n    __import__('subprocess').run(['true'])\ndef test_other():\n    pass\n"
    )
    options = ["-c", "/dev/null", "--rootdir", str(tmp_path), "-o", f"pythonpath={ROOT / 'tests'}", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True
    )
    assert "1 failed, 1 passed" in done.stdout
    assert "test_one starts a process, but is chosen as a unit test" in done.stdout
