"""The layout: which packages import which, no import cycles between folders, short files with telling names."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("kprune_export", "pruning", "exporters")
FORBIDDEN = {"pruning": {"exporters", "kprune_export"}, "exporters": {"pruning", "kprune_export"}}
MODULE_NAME = re.compile(rf"({'|'.join(PACKAGES)})(\.\w+)+")
"""Lazy imports name modules in strings."""
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BUILD_OUTPUTS = {"target", "build", "dist", "out", "lib", "bin", "wheels", "eggs", "parts", "sdist", "var", "env"}
"""Folder names that the standard ignore files of build systems leave out."""
NAMELESS = {"utils", "helpers", "common", "misc", "record", "places", "turns", "spill"}
"""Names that say nothing without their folder."""


def module_of(path: Path, root: Path = ROOT) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield what a file imports, lazily or not, with the line: modules, and names that may be modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE_NAME.fullmatch(node.value):
            yield node.value, node.lineno


def folder_edges(root: Path, sources: list[Path]) -> dict[str, dict[str, list[str]]]:
    """Return, for each folder or module at the top of a package, those that it imports, and where.

    What lies in a folder counts as the folder, so that two folders may not import each other by different modules.
    """
    modules = {module_of(path, root): path for path in sources}

    def unit(module: str) -> str:
        return ".".join(module.split(".")[:2])

    edges: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for module, path in modules.items():
        for name, line in imports(path):
            if name in modules and "." in name and "." in module and unit(name) != unit(module):
                edges[unit(module)][unit(name)].append(f"{path.relative_to(root)}:{line} imports {name}")
    return edges


def cycles(edges: dict[str, dict[str, list[str]]]) -> list[str]:
    """Return every import that is part of a cycle between folders, by file and line."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        rest = [start]
        while rest:
            new = set(edges[rest.pop()]) - seen
            seen |= new
            rest += new
        return seen

    return [
        place
        for folder in list(edges)
        for other, places in edges[folder].items()
        if folder in reached(other)
        for place in places
    ]


def test_no_import_cycles_between_folders() -> None:
    assert cycles(folder_edges(ROOT, SOURCES)) == []


def test_a_cycle_is_reported_by_file_and_line(tmp_path: Path) -> None:
    files = {
        "pruning/__init__.py": "",
        "pruning/one/__init__.py": "",
        "pruning/one/a.py": "import json\n\nfrom pruning.two.b import x\n",
        "pruning/two/b.py": "x = 1\n",
        "pruning/two/c.py": "def later():\n    from pruning.one import a\n",
        "pruning/three.py": "from pruning.one.a import x\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = cycles(folder_edges(tmp_path, sorted(tmp_path.rglob("*.py"))))
    assert sorted(found) == [
        "pruning/one/a.py:3 imports pruning.two.b",
        "pruning/two/c.py:2 imports pruning.one",
        "pruning/two/c.py:2 imports pruning.one.a",
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_one_way_and_files_stay_short(path: Path) -> None:
    package, *folders = path.relative_to(ROOT).parts[:-1]
    assert not {name.split(".")[0] for name, _ in imports(path)} & FORBIDDEN.get(package, set())
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert path.stem not in NAMELESS
    assert not BUILD_OUTPUTS & set(folders)


def test_pruning_knows_no_runtime_and_exporters_no_transformers() -> None:
    for path in SOURCES:
        package = path.relative_to(ROOT).parts[0]
        used = {name.split(".")[0] for name, _ in imports(path)}
        if package == "pruning":
            assert not used & {"onnx", "onnxruntime", "tensorrt"}, path
        if package == "exporters":
            assert "transformers" not in used, path


def test_tests_lie_in_the_folders_of_the_code_they_test() -> None:
    apart = {"contract", "fuzz", "end_to_end"}
    for package in ("pruning", "exporters", "kprune_export"):
        for path in (ROOT / "tests" / package).rglob("test_*.py"):
            folder = path.parent.relative_to(ROOT / "tests")
            assert (ROOT / folder).is_dir() or folder.name in apart, path


def test_no_test_imports_a_conftest_by_name() -> None:
    """Which would run it a second time, and give the process another folder for what it remembers of bundles."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        assert "conftest" not in {name.split(".")[0] for name, _ in imports(path)}, path


def test_only_task_classes_know_tasks() -> None:
    """No module switches on the task: it asks the task's class in `pruning.tasks` or `kprune_export.evaluation`."""
    from kprune_export.evaluation import EVALUATIONS

    modules = {evaluation.__module__ for evaluation in EVALUATIONS.values()}
    general = {"pruning.tasks.Task", "pruning.tasks.Output", "pruning.tasks.base"}
    knows = {"pruning/checkpoint/purpose.py", "pruning/checkpoint/load.py", "kprune_export/evaluation/__init__.py"}
    for path in SOURCES:
        place = path.relative_to(ROOT).as_posix()
        if place in knows or place.startswith("pruning/tasks/"):
            continue
        concrete = {name for name, _ in imports(path) if name.startswith("pruning.tasks.")} - general
        assert not concrete, f"{place} imports {concrete}"
        if not place.startswith("kprune_export/evaluation/"):
            used = {name for name, _ in imports(path)} & modules
            assert not used, f"{place} imports {used}"
        texts = {x.value for x in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(x, ast.Constant)}
        assert not texts & set(EVALUATIONS), f"{place} names a task"
