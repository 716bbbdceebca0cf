"""The layout that the design promises, held up by tests."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {"pruning": {"exporters", "kprune_export"}, "exporters": {"pruning", "kprune_export"}}
SOURCES = sorted(
    path for package in ("kprune_export", "pruning", "exporters") for path in (ROOT / package).rglob("*.py")
)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            head = node.value.split(".")[0]  # lazy imports name modules in strings
            if head in {"pruning", "exporters", "kprune_export"} and "." in node.value and " " not in node.value:
                names.add(head)
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_one_way_and_files_stay_short(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert not imported(path) & FORBIDDEN.get(package, set())
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert path.name not in {"utils.py", "helpers.py", "common.py", "misc.py"}


def test_pruning_knows_no_runtime_and_exporters_no_transformers() -> None:
    for path in SOURCES:
        package = path.relative_to(ROOT).parts[0]
        if package == "pruning":
            assert not imported(path) & {"onnx", "onnxruntime", "tensorrt"}, path
        if package == "exporters":
            assert "transformers" not in imported(path), path
