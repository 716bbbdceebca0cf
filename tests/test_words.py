"""The words of the project: the field's standard terms, in code, help, messages, documentation and tests."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = (
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs", "examples", "templates", "kprune_export",
    "pruning", "exporters", "tests", "benchmarks", "tools",
)  # fmt: skip
READ = {".py", ".md", ".j2", ".yml", ".yaml", ".html", ".ipynb"}

WORDS = {
    r"(?:dis)?prov(?:e|es|ed|en|ing)": "validate, check, show",
    r"proofs?": "validation, check, report",
    r"judg\w*": "evaluate, check",
    r"twins?": "baseline, counterpart",
    r"rehears\w*": "time a trial, trial timing",
    r"whoever": "the caller, the user, a reader",
    r"anew": "again",
    r"by lot": "at random",
    r"at hand": "available",
    r"told": "notified, called with, given",
    r"parted": "split",
    r"(?:puts?|putting) out": "returns, outputs",
    r"(?:go|goes|going|went) on (?:where|from)": "resumes",
    r"(?:make|makes|made|making) good": "compensate",
    r"all held(?![- ]out)": "all gates passed",
    r"(?:gates?|targets?) (?:held|holds?)": "passed, met",
    r"bears? (?:8|int8)": "can be quantized",
    r"dies with": "exits with its parent",
    r"undecided": "inconclusive",
}
"""Words that this project does not use, as regular expressions, and what to write."""
_PATTERN = re.compile("|".join(rf"(?P<w{n}>\b(?:{word})\b)" for n, word in enumerate(WORDS)), re.IGNORECASE)


def remarks(text: str) -> list[tuple[int, str]]:
    """Return the lines, from 1, that hold a word of the list, with what to write."""
    advice = list(WORDS.values())
    return [
        (number, f"{match[0]!r}: write {advice[int(str(match.lastgroup)[1:])]}")
        for number, line in enumerate(text.replace("_", " ").splitlines(), 1)
        for match in _PATTERN.finditer(line)
    ]


def test_the_search_finds_words_in_prose_and_in_names() -> None:
    text = "The gate held.\nproven_limits = 1\nprovenance improves; approved\nIt goes on where\nheld-out texts"
    assert [number for number, _ in remarks(text)] == [1, 2, 4]
    assert remarks("a rehearsal") == [(1, "'rehearsal': write time a trial, trial timing")]


def files() -> list[Path]:
    """Return the files under version control that people read, or all where there is no version control."""
    found = subprocess.run(["git", "ls-files", *PLACES], cwd=ROOT, capture_output=True, text=True, check=False)
    names = found.stdout.splitlines() or [
        str(path.relative_to(ROOT)) for place in PLACES for path in ((ROOT / place).rglob("*"), [ROOT / place])[0]
    ]
    return [ROOT / name for name in names if Path(name).suffix in READ and (ROOT / name).is_file()]


@pytest.mark.parametrize("place", PLACES)
def test_the_words_of_the_list_are_not_used(place: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {remark}"
        for path in files()
        if path.relative_to(ROOT).parts[0] == place and path != Path(__file__)
        for number, remark in remarks(path.read_text(encoding="utf-8"))
    ]
    assert found == []
