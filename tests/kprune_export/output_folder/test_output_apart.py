"""No command writes where it reads: each is asked to, by names, by links, above and below."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from output_folders import tree

from kprune_export.errors import OutputFolderError
from kprune_export.output_folder.files import check_new, write_new
from kprune_export.output_folder.inputs import check_apart
from kprune_export.pipeline.run import Outcome

Cli = Callable[..., int]
Run = Callable[..., str]


@pytest.fixture
def area(built: Outcome, classifier: Path, texts_file: Path, tmp_path: Path) -> Path:
    """A folder with a bundle, a dense model, texts, a recipe, gates, and files that stand for a table and curves."""
    shutil.copytree(built.output, tmp_path / "bundle")
    shutil.copytree(classifier, tmp_path / "model")
    (tmp_path / "data").mkdir()
    shutil.copyfile(texts_file, tmp_path / "data" / "texts.txt")
    (tmp_path / "data" / "recipe.yaml").write_text("samples: 60\nthreads: 2\n")
    (tmp_path / "data" / "gates.yaml").write_text("min_agreement: 0.1\n")
    for name in ("table.json", "curves.json", "cache.timing"):
        (tmp_path / "data" / name).write_text("{}")
    return tmp_path


@pytest.fixture
def refused(cli: Cli, area: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command which must change nothing, and returns the error."""
    monkeypatch.chdir(area)

    def run(*arguments: object) -> str:
        before = tree(area)
        assert cli(*arguments) == 2
        err = capsys.readouterr().err
        assert len(err.strip().splitlines()) == 1
        assert "which this command reads: choose another place to write to" in err
        assert tree(area) == before
        return err

    return run


TEXTS = ("--calibration", "data/texts.txt")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prune", "bundle/checkpoint", "-o", "bundle", *TEXTS), "bundle contains the model bundle/checkpoint"),
        (("prune", "model", "-o", "model/pruned", *TEXTS), "model/pruned lies in the model model"),
        (("prune", "model", "-o", "model", *TEXTS), "model is the model model"),
        (("prune", ".", "-o", "out", *TEXTS), "out lies in the model ."),
        (("prune", "model", "-o", ".", *TEXTS), "contains the model model"),
        (("prune", "model", "-o", "data", *TEXTS), "data contains the calibration texts data/texts.txt"),
        (("prune", "model", "-o", "data/../data", *TEXTS), "contains the calibration texts"),
        (("prune", "model", "-o", "data/texts.txt", *TEXTS), "is the calibration texts"),
        (("export", "bundle/checkpoint", "-o", "bundle"), "bundle contains the model bundle/checkpoint"),
        (("export", "model", "-o", "data", "--timing-cache", "data/cache.timing"), "contains the timing cache"),
        (
            ("prune-and-build", "model", "-o", "data", "--evaluation", "data/texts.txt"),
            "data contains the evaluation texts data/texts.txt",
        ),
        (
            ("prune-and-build", "model", "-o", "data", "--latency-table", "data/table.json"),
            "data contains the latency table data/table.json",
        ),
        (
            ("prune-and-build", "model", "-o", "data", "--sensitivity", "data/curves.json"),
            "data contains the sensitivity curves data/curves.json",
        ),
        (("prune-and-build", "model", "-o", "data", "--recipe", "data/recipe.yaml"), "data contains the recipe"),
        (("prune-and-build", "model", "-o", "data", "--gates", "data/gates.yaml"), "data contains the gates file"),
        (("validate", "bundle", "-o", "bundle"), "bundle is the bundle bundle"),
        (("validate", "bundle", "-o", "bundle/validation"), "bundle/validation lies in the bundle bundle"),
        (("validate", "bundle", "--dense", "model", "-o", "model"), "model is the model model"),
        (("validate", "bundle", "-o", "data", "--gates", "data/gates.yaml"), "data contains the gates file"),
        (("compare", "model", "-o", "model/comparison", *TEXTS), "lies in the model model"),
        (("compare", "model", "-o", "data", *TEXTS), "contains the calibration texts"),
        (("sweep", "model", "-o", "model/family", *TEXTS), "lies in the model model"),
        (("sweep", "model", "-o", "data", *TEXTS), "contains the calibration texts"),
        (("sweep", "model", "-o", "data", "--recipe", "data/recipe.yaml"), "contains the recipe"),
        (("sweep", "model", "-o", "data", "--gates", "data/gates.yaml"), "contains the gates file"),
        (("triton", "bundle", "-o", "bundle"), "bundle is the bundle bundle"),
        (("triton", "bundle", "-o", "bundle/triton"), "bundle/triton lies in the bundle bundle"),
        (("triton", "bundle", "-o", "data", "--validated", "data"), "data is the results of a validation data"),
        (("profile-target", "model", "-o", "model/table.json"), "latency table model/table.json lies in the model"),
        (("profile-target", "model", "-o", "t.json", "--plot", "model/t.svg"), "plot model/t.svg lies in the model"),
        (("profile-target", "model", "-o", "model/config.json"), "lies in the model model"),
    ],
)
def test_commands_refuse_to_write_where_they_read(arguments: tuple[object, ...], said: str, refused: Run) -> None:
    assert said in refused(*arguments)


@pytest.mark.parametrize("name", ["model/config.json", "data/texts.txt", "data/recipe.yaml", "data/gates.yaml"])
def test_a_junit_file_that_is_read_is_not_emptied(name: str, refused: Run, area: Path) -> None:
    command = ("prune-and-build", "model", "-o", "out", "--recipe", "data/recipe.yaml", "--gates", "data/gates.yaml")
    assert "JUnit file" in refused(*command, *TEXTS, "--junit", name)
    (area / "link.xml").symlink_to(area / name)
    assert "JUnit file link.xml" in refused(*command, *TEXTS, "--junit", "link.xml")
    if not name.startswith("model"):  # another name of a file in a folder is known by its content alone
        os.link(area / name, area / "hard.xml")
        assert "JUnit file hard.xml is" in refused(*command, *TEXTS, "--junit", "hard.xml")


def test_a_step_summary_that_is_read_is_not_appended_to(refused: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "data/texts.txt")
    assert "The step summary data/texts.txt is the calibration texts" in refused("export", "model", "-o", "out", *TEXTS)


def test_a_junit_file_replaces_only_one_of_ours(
    cli: Cli, area: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(area)
    command = ("prune-and-build", "model", "-o", "out", *TEXTS, "--flops-reduction", 7)
    for text in ("my notes", '<?xml version="1.0"?>\n<testsuites name="others">'):
        Path("results.xml").write_text(text)
        assert cli(*command, "--junit", "results.xml") == 2
        assert "holds something other than JUnit XML of this program" in capsys.readouterr().err
        assert Path("results.xml").read_text() == text
    Path("results.xml").write_text("")
    for _ in range(2):  # an empty file, and the one that was written
        assert cli(*command, "--junit", "results.xml") == 2
        assert "results.xml" not in capsys.readouterr().err
        assert Path("results.xml").read_text().startswith("<?xml")
    assert cli(*command, "--junit", os.devnull) == 2
    assert "is not overwritten" not in capsys.readouterr().err


def test_outputs_are_apart_from_each_other(
    cli: Cli, area: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(area)
    before = tree(area)
    for command, said in (
        (("profile-target", "model", "-o", "t.json", "--plot", "t.json"), "plot t.json is the latency table t.json"),
        (("validate", "bundle", "-o", "out", "--junit", "out/j.xml"), "JUnit file out/j.xml lies in the output folder"),
        (("export", "model", "-o", "t.json"), None),
    ):
        if said:
            assert cli(*command) == 2
            assert said in capsys.readouterr().err
    assert tree(area) == before


def test_links_are_resolved(refused: Run, area: Path) -> None:
    (area / "by-link").symlink_to(area / "bundle")
    assert "is the bundle bundle" in refused("validate", "bundle", "-o", "by-link")
    assert "is the bundle by-link" in refused("validate", "by-link", "-o", "bundle")
    assert "lies in the bundle" in refused("triton", "bundle", "-o", "by-link/models")
    (area / "view").mkdir()
    for path in (area / "bundle" / "checkpoint").iterdir():
        (area / "view" / path.name).symlink_to(path)
    assert "bundle contains the model view (by a link to " in refused("prune", "view", "-o", "bundle", *TEXTS)
    (area / "texts.txt").symlink_to("data/texts.txt")
    assert "data contains the calibration texts" in refused(
        "prune", "model", "-o", "data", "--calibration", "texts.txt"
    )


def test_the_model_that_a_manifest_names_is_read_too(refused: Run, area: Path) -> None:
    manifest = json.loads((area / "bundle" / "manifest.json").read_text())
    manifest["recipe"]["model"] = str(area / "model")
    (area / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    assert "model contains" not in refused("validate", "bundle", "-o", "model")
    assert f"model/out lies in the model {area / 'model'}" in refused("validate", "bundle", "-o", "model/out")


def test_what_is_apart_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model-pruned").mkdir()
    inputs = [("model", tmp_path / "model"), ("texts", None), ("texts", "owner/name:config@split"), ("texts", "a\0b")]
    for name in ("model-pruned", "model2", "mod", "new/model", "model-pruned/model"):
        check_apart([("output folder", tmp_path / name)], inputs)
    with pytest.raises(OutputFolderError, match="lies in the model"):
        check_apart([("output folder", tmp_path / "model-pruned" / ".." / "model" / "x")], inputs)


def test_a_file_that_appears_while_a_command_runs_is_kept(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    check_new(table)
    table.write_text("precious")
    with pytest.raises(OutputFolderError, match="was made by something else while this command was running"):
        write_new(table, "new")
    assert table.read_text() == "precious"
    write_new(tmp_path / "new.json", "new")
    assert (tmp_path / "new.json").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"table.json", "new.json"}


def test_a_table_is_not_written_through_a_link_that_leads_nowhere(
    cli: Cli, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.json").symlink_to(tmp_path / "elsewhere.json")
    assert cli("profile-target", classifier, "-o", tmp_path / "table.json") == 2
    assert "is there already" in capsys.readouterr().err
