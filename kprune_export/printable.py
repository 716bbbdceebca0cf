"""Text out of models and files as it is shown: nothing in it controls a terminal, or hides what is read.

Labels, names and messages of others may hold escape sequences, which move a terminal's cursor, rewrite what it has
shown or reach its clipboard, and marks that turn the direction of text around (CVE-2021-42574). They are written as
Python writes them in a literal. This is done where text is printed or put into a page, once, and not where it is read.
"""

import unicodedata

_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode's categories of characters that control, format or separate, and of halves of characters:
https://www.unicode.org/reports/tr44/#General_Category_Values."""
_MEANT = frozenset("\n\t\u200c\u200d")
"""Those that text is made of: line ends and tabs, and what joins and parts letters and emoji."""


def printable(text: str) -> str:
    r"""Return text with its control characters written out, ``\x1b`` for example; lines stay lines."""
    if text.isprintable():
        return text
    return "".join(_written_out(x) if _is_hidden(x) else x for x in text)


def printable_json(document: str) -> str:
    r"""Return a JSON document with its control characters as ``\u009b``: the same values for every reader."""
    if document.isascii() and "\x7f" not in document:  # JSON itself escapes the others in texts
        return document
    return "".join(_json_escape(x) if _is_hidden(x) else x for x in document)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN and character not in _MEANT


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", errors="surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
