"""Hooks of the documentation site: pages that are generated, and links to files outside of docs/.

Nothing that is generated is committed: the command-line reference comes from the commands themselves, the Python API
from docstrings, and README, CHANGELOG, CONTRIBUTING and SECURITY are shown as they are in the repository.
"""

import inspect
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.core import TyperGroup

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = ("kprune_export", "pruning", "exporters")
ROOT_PAGES = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Files at the root of the repository, and the pages that show them."""
_SOURCES = {page: name for name, page in ROOT_PAGES.items()}
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, then replace every FOLDER/* of the navigation by the pages of the folder."""
    generated = {page: (ROOT / name).read_text(encoding="utf-8") for name, page in ROOT_PAGES.items()}
    generated["reference/command-line.md"] = command_line_page()
    generated |= api_pages()
    for path, content in generated.items():
        files.append(File.generated(config, path, content=content))
    config.nav = _expanded(config.nav, sorted(file.src_uri for file in files.documentation_pages()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Resolve links as the repository does: to pages of the site, or, for other files, to their names alone."""
    source = _SOURCES.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def resolved(link: re.Match[str]) -> str:
        text, target, anchor = link.group(1), link.group(2), link.group(3) or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        name = ROOT_PAGES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if name is not None and (DOCS / name).is_dir():  # a folder stands for its first page
            name = min((x.relative_to(DOCS).as_posix() for x in (DOCS / name).glob("*.md")), default=name)
        if name is not None:
            relative = posixpath.relpath(name, posixpath.dirname(page.file.src_uri) or ".")
            return f"[{text}]({relative}{anchor})"
        if not (ROOT / path).exists():
            return link.group(0)  # which the build reports
        return text if text.startswith("`") else f"{text} (`{path}`)" if text != path else f"`{path}`"

    if source == "README.md":
        markdown = markdown.replace("](docs/readme.svg)", "](readme.svg)")
    return _LINK.sub(resolved, markdown)


def _expanded(nav: Any, pages: list[str]) -> Any:
    if isinstance(nav, dict):
        return {title: _expanded(inner, pages) for title, inner in nav.items()}
    if not isinstance(nav, list):
        return nav
    entries: list[Any] = []
    for entry in nav:
        if isinstance(entry, str) and entry.endswith("/*"):
            folder = entry.removesuffix("/*")
            entries += [page for page in pages if posixpath.dirname(page) == folder]
        else:
            entries.append(_expanded(entry, pages))
    return entries


def command_line_page() -> str:
    """Return the reference of all commands, as Markdown, from the commands' own declarations."""
    from kprune_export.cli.app import app

    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    parts = ["# Command line", group.help or "", group.epilog or ""]
    with group.make_context("kprune-export", [], resilient_parsing=True) as outer:
        for name, command in group.commands.items():
            with command.make_context(name, [], parent=outer, resilient_parsing=True) as context:
                usage = " ".join(command.get_usage(context).removeprefix("Usage:").split())
                parts += [f"## {name}", f"`{usage}`", inspect.cleandoc(command.help or "")]
                parts += _option_tables(command, context)
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _option_tables(command: Any, context: Any) -> Iterator[str]:
    """Yield a table for each panel of a command's help, headed by its name."""
    panels: dict[str, list[str]] = defaultdict(list)
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or getattr(parameter, "hidden", False):
            continue
        kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
        names, text = (" ".join(part.split()).replace("|", "\\|") for part in record)
        panel = panels[getattr(parameter, "rich_help_panel", None) or kind]
        panel.append(f"| `{names}` | {text.replace('<', '&lt;')} |")
    for title, rows in panels.items():
        yield "\n".join([f"**{title}**", "", "| option | meaning |", "|---|---|", *rows])


def api_pages() -> dict[str, str]:
    """Return a page of mkdocstrings directives for each folder of the packages."""
    folders: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            name = module.removesuffix(".__init__")
            top = ".".join(name.split(".")[:2]) if path.parent != ROOT / package else package
            folders[top].append(name)
    return {
        f"reference/api/{folder}.md": f"# `{folder}`\n\n"
        + "\n\n".join(f"::: {name}\n    options: {{show_submodules: false}}" for name in sorted(modules))
        + "\n"
        for folder, modules in folders.items()
    }
