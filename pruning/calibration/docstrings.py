"""The embedded calibration texts: English sentences out of the installed packages' docstrings.

They are there wherever the program is, need no download and no licence of their own, and are enough
to see how a model's units work together on English prose. Texts like those that the model will serve
are better; the source files are parsed, never imported.
"""

import ast
import hashlib
import importlib.util
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from pruning.calibration.examples import Example
from pruning.errors import CalibrationError

PACKAGES = ("datasets", "huggingface_hub", "matplotlib", "numpy", "scipy", "sklearn", "torch", "transformers")
"""The packages searched beside the standard library; all are dependencies of this project."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_PROSE = re.compile(r"[A-Z][A-Za-z0-9 ,;:'\"()%/–-]+[.!?]")
_COMMON_WORDS = frozenset(("a", "an", "and", "are", "as", "by", "for", "in", "is", "of", "on", "that", "the", "to"))


def sentences_in(docstring: str) -> list[str]:
    """Return the plain English sentences of a docstring: 6 to 40 words, with no code or markup."""
    found = []
    for paragraph in re.split(r"\n\s*\n", docstring):
        for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
            words = sentence.rstrip(".!?").lower().split()
            if 6 <= len(words) <= 40 and _PROSE.fullmatch(sentence) and len(_COMMON_WORDS & set(words)) >= 2:
                found.append(sentence)
    return found


def docstring_examples(count: int, seed: int) -> list[Example]:
    """Return ``count`` different sentences, the same ones for the same packages and seed.

    Raises:
        CalibrationError: the installed packages hold fewer sentences than asked for.

    """
    found: dict[str, None] = {}
    for path in _source_files(seed):
        if len(found) >= count:
            break
        found.update(dict.fromkeys(s for text in _docstrings(path) for s in sentences_in(text)))
    if len(found) < count:
        raise CalibrationError(
            f"The installed packages' docstrings hold {len(found)} English sentences, but {count} are asked for: "
            "ask for fewer, or give texts of your own with --calibration."
        )
    return [Example(text) for text in list(found)[:count]]


def _source_files(seed: int) -> list[Path]:
    """Return the packages' Python files in an order that mixes them and depends on the seed alone."""
    roots = [(Path(sysconfig.get_path("stdlib")), "*.py")]
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            roots.append((Path(next(iter(spec.submodule_search_locations))), "**/*.py"))
    keyed = [
        (hashlib.sha256(f"{seed}/{root.name}/{path.relative_to(root).as_posix()}".encode()).digest(), path)
        for root, pattern in roots
        for path in root.glob(pattern)
        if "test" not in path.relative_to(root).as_posix()
    ]
    return [path for _, path in sorted(keyed)]


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):  # vendored Python 2, templates: not a source of sentences
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text
