"""Text of models and files does not control the terminal, or the page, that shows it."""

import io
import json
import logging
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from kprune_export.ci.checks import Check
from kprune_export.ci.junit import junit_xml
from kprune_export.cli.console import PrintableConsole, route_warnings
from kprune_export.errors import RecipeError, message_of
from kprune_export.pipeline.run import Outcome
from kprune_export.printable import printable, printable_json
from kprune_export.tables import Section, markdown_table

Cli = Callable[..., int]
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\u2066\x7f\r\u2028\ud800"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\u2066\x7f\r\u2028\ud800"


def hidden(text: str) -> set[str]:
    """Return the characters of a text that nobody should be shown."""
    return {x for x in text if unicodedata.category(x) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - set("\n\t\u200c\u200d")


def test_by_hand() -> None:
    assert printable(EVIL) == SHOWN
    assert not hidden(printable("".join(map(chr, range(0x3000)))))
    for text in ("", "naïve 漢字 🙂\n\tx", "می‌خواهم", "👩‍👩‍👧", "a\\x1b"):
        assert printable(text) == text


def test_json_has_the_same_values() -> None:
    for ensure_ascii in (True, False):
        document = json.dumps({EVIL: [EVIL, "漢字 🙂", "\U000e0001"]}, ensure_ascii=ensure_ascii, indent=2)
        found = printable_json(document)
        assert not hidden(found)
        assert json.loads(found) == json.loads(document)


def test_a_console_sends_its_own_sequences_alone() -> None:
    stream = io.StringIO()
    console = PrintableConsole(file=stream, force_terminal=True, color_system="standard", width=100)
    console.print(EVIL)
    console.print(Text(EVIL, style="red"))
    table = Table(title=EVIL)
    table.add_column(EVIL, overflow="fold")
    table.add_row(Text(EVIL, style="green"))
    table.add_row(EVIL)
    console.print(table)
    shown = stream.getvalue()
    assert "\x1b[31m" in shown
    assert "\x1b[32m" in shown
    assert not any(x in shown for x in ("\x1b]", "\x07", "\x9b", "\u202e", "\x1b[2J"))
    assert r"\x1b]0;owned\x07" in shown


def test_warnings_errors_and_pages(capsys: pytest.CaptureFixture[str]) -> None:
    route_warnings()
    logging.getLogger("pruning").warning("%s", EVIL)
    assert r"\x1b]0;owned" in capsys.readouterr().err
    assert message_of(RecipeError(EVIL)).startswith(r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil")
    for page in (
        message_of(RecipeError(EVIL)),
        markdown_table(Section(EVIL, (EVIL,), ((EVIL,),))),
        junit_xml([Check(suite="run", name=EVIL, outcome="failed", detail=EVIL)]),
    ):
        assert not hidden(page)


def test_every_command_that_shows_a_bundle(
    built: Outcome, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = EVIL.replace("\ud800", "")
    bundle = Path(shutil.copytree(built.output, tmp_path / evil.replace("\r", "")))
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    manifest |= {"task": evil, "labels": [evil], "versions": {evil: evil}, "command": evil, "notes": [evil]}
    manifest["source"]["model"] = manifest["recipe"]["model"] = evil
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    for command in (
        ("diff", built.output, bundle),
        ("diff", built.output, bundle, "--markdown"),
        ("diff", built.output, bundle, "--json"),
        ("inspect", bundle),
        ("inspect", bundle, "--json"),
        ("inspect", bundle / "nothing"),
        ("verify", bundle),
        ("verify", bundle, "--json"),
        ("validate", bundle, "--dense", tmp_path / evil),
        ("push", bundle, "me/model", "--dry-run"),
        ("prune", tmp_path / evil, "-o", tmp_path / "out", "--json"),
    ):
        cli(*command)
        found = capsys.readouterr()
        assert found.out + found.err
        assert not hidden(found.out + found.err), command


@pytest.mark.parametrize(
    "arguments",
    [
        (f"--{EVIL}",),
        (EVIL,),
        ("prune", f"--{EVIL}"),
        ("prune", "--seed", EVIL),
        ("prune", "--pooling", EVIL),
        ("serve-check", "x", "--requests", EVIL),
        ("verify", "a", EVIL),
    ],
)
def test_arguments_that_the_parser_refuses(
    arguments: tuple[str, ...], cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(*arguments) == 2
    err = capsys.readouterr().err
    assert "Error" in err
    assert not hidden(err)


def test_labels_in_the_card_and_the_report(
    make_checkpoint: Callable[..., Path], texts_file: Path, cli: Cli, tmp_path: Path
) -> None:
    evil = EVIL.replace("\ud800", "")
    source = make_checkpoint(labels=(evil, "positive"))
    (source / "README.md").write_text('---\nlicense: other\nlicense_name: "\\u202e\\e[2J"\n---\n', encoding="utf-8")
    quick = ["--samples", 60, "--held-out", 20, "--sequence-length", 16, "--shapes", "1x8", "--timing-seconds", 0.02]
    assert cli("prune-and-build", source, "-o", tmp_path / "out", "--calibration", texts_file, *quick) == 0
    for name in ("report.html", "checkpoint/README.md"):
        page = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert not hidden(page), name
        assert "u202e" in page
