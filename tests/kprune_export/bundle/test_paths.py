"""What is published reveals nothing of where its maker's files lie, and can still be validated where they are."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kprune_export.bundle.inputs import remember_inputs, repeatable_settings
from kprune_export.bundle.manifest import Manifest
from kprune_export.pipeline.run import Outcome, prune_and_build
from kprune_export.recipe.input_names import shipped_name
from kprune_export.recipe.recipe import Recipe

Cli = Callable[..., int]
MakeRecipe = Callable[..., Recipe]


def revealing(folder: Path, *secrets: str) -> list[tuple[str, str]]:
    """Return the files of a folder that hold one of some texts, in UTF-8 or as JSON writes them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        (str(x.relative_to(folder)), secret) for x in files for secret in secrets if secret.encode() in x.read_bytes()
    ]


def test_a_bundle_does_not_tell_paths(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(
        classifier, tmp_path / "out", texts_file, precision="fp32,int8", triton=True, triton_backend="python"
    )
    bundle = prune_and_build(recipe)
    above = (str(classifier.parent), str(texts_file.parent), str(tmp_path), str(Path.home()), str(Path.cwd()))
    assert revealing(bundle.output, *above, os.uname().nodename) == []
    manifest = bundle.manifest
    assert manifest.source.model == manifest.recipe["model"] == f"…/{classifier.name}"
    assert manifest.calibration is not None
    assert manifest.calibration.source == manifest.recipe["calibration"] == f"…/{texts_file.name}"
    page = (bundle.output / "report.html").read_text(encoding="utf-8")
    assert f"…/{texts_file.name}" in page
    known = repeatable_settings(bundle.output)
    assert known == manifest.repeatable_recipe | {"model": str(classifier), "calibration": str(texts_file)}


def test_on_another_machine_it_asks_for_what_is_not_there(
    built: Outcome,
    classifier: Path,
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert cli("validate", built.output) == 2
    assert f"…/{classifier.name}, the dense model of {built.output}, is not on this machine" in capsys.readouterr().err
    assert cli("validate", built.output, "--dense", classifier) == 2
    assert "the calibration texts of" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", '{"model": 7}', '{"calibration": null}'])
def test_a_damaged_memory_is_none(
    built: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    remember_inputs(built.manifest.sha256, {"model": str(built.output)})
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert repeatable_settings(built.output)["model"] == str(built.output)
    file.write_text(content)
    assert repeatable_settings(built.output) == Manifest.of_bundle(built.output).repeatable_recipe


def test_a_home_that_cannot_be_written_to_is_named(
    built: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    remember_inputs("0" * 64, {"model": str(built.output)})
    assert "Where the bundle's inputs are could not be kept" in caplog.text


def test_an_exported_model_is_inspected_where_it_is_known(
    classifier: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("export", classifier, "-o", tmp_path / "out", "--threads", 2) == 0
    assert cli("inspect", tmp_path / "out") == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    capsys.readouterr()
    assert cli("inspect", tmp_path / "out") == 2
    assert f"where …/{classifier.name} is, which it was exported from, is not known" in capsys.readouterr().err


def test_names_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    for given, name in (
        ("owner/name", "owner/name"),
        ("models/mine", "./models/mine"),
        ("./models/mine", "./models/mine"),
        (str(tmp_path / "models" / "mine"), "…/mine"),
        ("~/elsewhere/mine/", "…/mine"),
        ("../other", "…/other"),
        (".", f"…/{tmp_path.name}"),
    ):
        assert shipped_name("model", given) == name
    assert shipped_name("calibration", "data/train.csv") == "data/train.csv"
    assert shipped_name("calibration", "/data/train.csv") == "…/train.csv"
    assert shipped_name("evaluation", "owner/name:config@test") == "owner/name:config@test"
