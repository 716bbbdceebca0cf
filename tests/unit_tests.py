"""Unit tests, which `make test-fast` runs: chosen by what a test's module imports, and by the fixtures that it uses.

A test is a unit test unless its module imports, anywhere, something that starts processes, exports a model or runs
the product, or it uses a fixture that does. So no list of tests has to be kept, and a new test is placed by itself.
With ``-m unit`` a test that starts a process all the same fails, and its message says what to add here.
"""

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HEAVY_MODULES = (
    "exporters.onnx.export",
    "exporters.onnx.passes.int8",  # calibrates in a scratch folder, which a process of its own removes
    "exporters.processes",
    "exporters.timing.isolation",
    "exporters.timing.latency_table.measure",
    "kprune_export.__main__",
    "kprune_export.cli.app",
    "kprune_export.experiments.compare.run",
    "kprune_export.experiments.sweep.run",
    "kprune_export.pipeline.run",
    "kprune_export.triton.check",
    "multiprocessing",
    "subprocess",
    # modules of tests
    "command_line",
    "killed_runs",
    "killing",
    "local_hub",
    "processors",
    "tensorrt_harness",
    "tritonserver_harness",
)
"""Modules, and packages with all that is in them, that start processes, export a model or run the product."""
HEAVY_FIXTURES = frozenset({"artefact", "built", "cli", "embedding_bundle", "minilm", "shared", "tensorrt"})
HEAVY_TESTS = frozenset({"test_family_contract", "test_methods"})
"""Modules that run every family or method through everything: contracts, not units."""
_STARTED = frozenset({"os.fork", "os.posix_spawn", "subprocess.Popen"})
_current: str | None = None


def is_unit(item: pytest.Item) -> bool:
    """Whether a test starts no process, exports no model and does not run the product."""
    fixtures = getattr(item, "fixturenames", ())
    return item.path.stem not in HEAVY_TESTS and not HEAVY_FIXTURES & set(fixtures) and not _is_heavy(item.path)


@functools.cache
def _is_heavy(path: Path) -> bool:
    return any(
        name == heavy or name.startswith(f"{heavy}.")
        for name in _imported(ast.parse(path.read_text(encoding="utf-8")))
        for heavy in HEAVY_MODULES
    )


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


class ProcessGuard:
    """A pytest plugin that fails unit tests which start a process."""

    def __init__(self) -> None:
        sys.addaudithook(self._refuse)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Watch a test, its fixtures included."""
        global _current  # an audit hook cannot be removed, so it reads which test runs
        _current = item.nodeid
        try:
            return (yield)
        finally:
            _current = None

    @staticmethod
    def _refuse(event: str, _arguments: tuple[Any, ...]) -> None:
        if event in _STARTED and _current:
            pytest.fail(
                f"{_current} starts a process, but is chosen as a unit test: add what starts it to HEAVY_MODULES or "
                "HEAVY_FIXTURES in tests/unit_tests.py."
            )
