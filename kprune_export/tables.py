"""Tables of text that are printed on a terminal, or as Markdown."""

import re
from dataclasses import dataclass

from kprune_export.printable import printable

_MEANT_LITERALLY = re.compile(r"([\\`*_\[\]|~#@<>&])")

_HTML = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;"}


@dataclass(frozen=True)
class Section:
    """A table under a title; every row has as many cells as there are headings. Without rows it is not shown."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def markdown_table(section: Section) -> str:
    """Return a section in GitHub's Markdown, every cell escaped; https://github.github.com/gfm/#tables-extension-."""
    lines = [section.headings, *section.rows]
    text = ["| " + " | ".join(map(markdown_text, line)) + " |" for line in lines]
    return "\n".join(
        (f"### {markdown_text(section.title)}", "", text[0], "|---" * len(section.headings) + "|", *text[1:])
    )


def markdown_text(text: str) -> str:
    """Return text that Markdown shows as it is, on one line: no markup, no HTML, no mention, no control character."""
    return _MEANT_LITERALLY.sub(lambda found: _HTML.get(found[1], "\\" + found[1]), " ".join(printable(text).split()))
