"""The documentation: its code runs, its glossary has each term once, and its generated pages are complete."""

import re
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pruning import PruningSettings, load_checkpoint, prune_checkpoint
from pruning.calibration.examples import Example
from pruning.methods import METHODS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("mkdocs", reason="needs the extra docs: make docs installs it")
    monkeypatch.syspath_prepend(ROOT / "tools")
    import mkdocs_hooks

    yield mkdocs_hooks
    sys.modules.pop("mkdocs_hooks")


def code_of(page: str, language: str = "python") -> list[str]:
    blocks = re.findall(rf"^ *```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.M)
    return [textwrap.dedent(block.rstrip(" ")) for block in blocks]  # those in lists are indented


def test_the_method_of_the_walk_through_prunes(
    classifier: Path, make_sentences: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace: dict[str, Any] = {"__name__": "first_units"}
    exec(code_of("how-to/add-a-method.md")[0], namespace)  # the text of a page of ours
    method = namespace["FirstUnits"]()
    monkeypatch.setitem(METHODS, method.name, method)
    texts = [Example(text) for text in make_sentences(8)]
    plan = prune_checkpoint(
        load_checkpoint(classifier), texts, PruningSettings(flops_reduction=0.5, method="first", sequence_length=16)
    )
    assert 0 <= plan.flops_reduction - 0.5 < plan.costs.neuron / plan.dense_flops
    assert all(layer.neurons == tuple(range(len(layer.neurons))) for layer in plan.layers)


def is_python(source: str) -> bool:
    try:
        compile(source, "a page", "exec")
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize("page", sorted(x.relative_to(DOCS).as_posix() for x in DOCS.rglob("*.md")))
def test_code_blocks_are_python(page: str) -> None:
    for block in code_of(page):
        assert is_python(block) or is_python(f"{{\n{block}\n}}"), block  # or entries of a dictionary


def test_terms_are_defined_once() -> None:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    terms = [term for line in re.findall(r"^(.+)\n:   ", text, re.MULTILINE) for term in line.split(", ")]
    assert len(terms) > 50
    assert len(set(terms)) == len(terms)


def test_the_changelog_is_in_the_common_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    releases = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (Unreleased|\d{4}-\d{2}-\d{2})$", text, re.MULTILINE)
    assert releases[0][0] == version
    assert len(releases) == len(re.findall("^## ", text, re.MULTILINE))
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_decisions_are_numbered() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))
    for number, page in enumerate(pages, 1):
        assert page.name.startswith(f"{number:03}-")
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {number:03}: ")
        assert all(part in text for part in ("**Decision.**", "**Context.**", "**Reasons.**", "**Consequences.**"))


def test_the_command_line_reference_has_every_option(hooks: Any) -> None:
    import typer

    from kprune_export.cli.app import app

    page = hooks.command_line_page()
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert all(option in section for option in parameter.opts), (name, parameter.opts)


def test_the_api_reference_has_every_module(hooks: Any) -> None:
    pages = "\n".join(hooks.api_pages().values())
    for package in hooks.PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            assert f"::: {module}\n" in pages


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("tutorial.md", "[a](../README.md#b)", "[a](overview.md#b)"),
        ("how-to/x.md", "[a](../EXPORT.md)", "[a](../EXPORT.md)"),
        ("how-to/x.md", "[a](../../README.md)", "[a](../overview.md)"),
        ("overview.md", "[a](docs/EXPORT.md#b)", "[a](EXPORT.md#b)"),
        ("overview.md", "[a](docs/decisions)", "[a](decisions/001-output-projections-only.md)"),
        ("EXPORT.md", "[passes](../exporters/onnx/passes)", "passes (`exporters/onnx/passes`)"),
        ("EXPORT.md", "[a](../nowhere.md)", "[a](../nowhere.md)"),
        ("EXPORT.md", "[a](https://example.org/b)", "[a](https://example.org/b)"),
    ],
)
def test_links_out_of_the_docs_are_resolved(hooks: Any, page: str, link: str, expected: str) -> None:
    class Page:
        class file:
            src_uri = page

    assert hooks.on_page_markdown(link, Page, None, None) == expected
