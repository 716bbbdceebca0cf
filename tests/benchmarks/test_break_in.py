"""The benchmark of break-ins: how much it tries, and that it reports a promise that is broken."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from project_root import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import break_in
from break_in_attempts.checks import Broken, Ended, clean, files_without, printable, refused, snapshot, unchanged
from break_in_attempts.scene import Attempt, Kind, Materials, Scene

KINDS = [kind for kinds in break_in.subjects().values() for kind in kinds]
FOLDER = Path(break_in.__file__).parent / "break_in_attempts"


def test_it_tries_enough_and_nothing_twice() -> None:
    assert len(KINDS) >= 60
    assert sum(len(kind.attempts) for kind in KINDS) >= 300
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        assert kind.right
        assert len({attempt.name for attempt in kind.attempts}) == len(kind.attempts) > 0, kind.name


def test_every_module_is_a_subject_and_is_short() -> None:
    modules = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "checks", "scene"}
    assert modules == set(break_in.SUBJECTS)
    for path in FOLDER.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 400, path.name


def ended(code: int | None = 2, err: str = "Error: It is not there.\n", out: str = "") -> Ended:
    return Ended(code=code, out=out, err=err, cpu_seconds=1.0, peak_mib=100.0)


def test_what_is_right_survives(tmp_path: Path) -> None:
    refused(ended(), "not there|missing")
    clean(ended(0, "", "naïve 漢字\n"))
    (tmp_path / "a").write_text("x")
    unchanged(snapshot(tmp_path), tmp_path)
    files_without(tmp_path, "secret")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: refused(ended(0)),
        lambda: refused(ended(1, "Error: internal error, KeyError: 'x'\n")),
        lambda: refused(ended(None)),
        lambda: refused(ended(-9)),
        lambda: refused(ended(2, "Error: one\nError: two\n")),
        lambda: refused(ended(2, "")),
        lambda: refused(ended(2), "the tokenizer"),
        lambda: clean(ended(0, "Traceback (most recent call last):\n")),
        lambda: clean(ended(0, "", "\x1b[2J")),
        lambda: printable("a\u202eb", "a page"),
    ],
)
def test_a_broken_promise_is_not_survived(wrong: Callable[[], None]) -> None:
    with pytest.raises(Broken):
        wrong()


@pytest.mark.parametrize("change", ["changed", "removed", "made", "a link"])
def test_a_file_that_is_touched_is_noticed(change: str, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    before = snapshot(tmp_path)
    if change == "made":
        (tmp_path / "b").mkdir()
    else:
        file.unlink()
    if change == "changed":
        file.write_text("y")
    elif change == "a link":
        file.symlink_to(tmp_path / "c")
    with pytest.raises(Broken, match="changed, made or removed"):
        unchanged(before, tmp_path)


def test_attempts_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(break_in, "nothing_runs", lambda: None)  # other tests' processes are not an attempt's

    def broken(scene: Scene) -> None:
        raise Broken("a secret arrived")

    def faulty(scene: Scene) -> None:
        raise KeyError("x")

    scene = Scene(tmp_path, Materials(tmp_path), 0.0)
    assert break_in.outcome_of(Attempt("fine", lambda _: None), scene) == ""
    assert break_in.outcome_of(Attempt("broken", broken), scene) == "a secret arrived"
    assert "the attempt itself failed" in break_in.outcome_of(Attempt("faulty", faulty), scene)


def test_a_process_that_is_left_over_is_noticed(tmp_path: Path) -> None:
    def leave(scene: Scene) -> None:
        import subprocess

        subprocess.Popen(["sleep", "60"])

    (tmp_path / "made").mkdir()
    kind = Kind("processes", "none is left", (Attempt("one", leave), Attempt("none", lambda _: None)))
    results = list(break_in.run_all({"x": (kind,)}, Materials(tmp_path / "made"), jobs=1))
    assert [(x.attempt, x.survived) for x in results] == [("one", False), ("none", True)]
    assert "processes are left over: sleep" in results[0].why
    assert break_in.table(results).splitlines()[-1] == "| all | 1 | 2 | 1 |"


def test_attempts_that_are_done_are_not_tried_again(tmp_path: Path) -> None:
    kind = Kind("k", "r", (Attempt("one", lambda _: None), Attempt("two", lambda _: None)))
    (tmp_path / "made").mkdir()
    results = break_in.run_all({"x": (kind,)}, Materials(tmp_path / "made"), 1, {("x", "k", "one")})
    assert [x.attempt for x in results] == ["two"]
    known = tmp_path / "results.json"
    assert break_in.known_results(known, {"x": (kind,)}) == []
    row = {"subject": "x", "kind": "k", "attempt": "one", "survived": True, "why": "", "seconds": 1.0}
    known.write_text(json.dumps([row, {**row, "attempt": "of an older version"}]))
    assert [x.attempt for x in break_in.known_results(known, {"x": (kind,)})] == ["one"]
