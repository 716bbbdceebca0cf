"""What fuzzing found, and what hostile names and links could reach: each case by itself."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from output_folders import run_folder

from kprune_export.bundle.layout import MANIFEST, REPOSITORY_RECORD, WORK
from kprune_export.bundle.manifest import Manifest, SourceRecord, StageRecord, record_files
from kprune_export.bundle.workspace import Workspace
from kprune_export.errors import BundleError, OutputFolderError, RecipeError, message_of
from kprune_export.output_folder.publication import PUBLICATION
from kprune_export.pipeline.run import Outcome
from kprune_export.recipe.recipe import Recipe
from kprune_export.triton.folder import write_folder

Cli = Callable[..., int]
SOURCE = SourceRecord(model="m", weights_sha256="a", config_sha256="b", tokenizer_sha256="c")


def publish(output: Path, name: str, text: str) -> None:
    with Workspace.open(output) as workspace:
        folder = workspace.begin("one")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        stage = workspace.finish(StageRecord(name="one", key="k", reproducible=True, outputs=(name.split("/")[0],)))
        workspace.publish(manifest_of(stage.stage, stage.files), [stage])


def manifest_of(stage: StageRecord, files: object) -> Manifest:
    return Manifest.model_validate(
        {
            "command": "test", "verdict": None, "gates": (), "task": "none", "labels": (), "plan_sha256": None,
            "flops_reduction": None, "source": SOURCE, "calibration": None, "held_out": None, "recipe": {},
            "versions": {}, "stages": (stage,), "files": files,
        }
    )  # fmt: skip


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "precious.txt").write_text("precious")
    return folder


@pytest.mark.parametrize("name", ["../canary/precious.txt", "/etc/passwd", "a/../../canary", "", ".", "a//b", "a\0b"])
def test_a_manifest_names_only_files_inside(name: str, tmp_path: Path) -> None:
    publish(tmp_path / "out", "plan.json", "x")
    values = json.loads((tmp_path / "out" / MANIFEST).read_text())
    for changed in (
        {"files": [{**values["files"][0], "path": name}]},
        {"stages": [{**values["stages"][0], "outputs": [name]}]},
    ):
        (tmp_path / "out" / MANIFEST).write_text(json.dumps({**values, **changed}))
        with pytest.raises(BundleError, match="is not the name of a file inside the folder"):
            Manifest.of_bundle(tmp_path / "out")


def test_a_link_in_the_output_folder_is_refused_and_what_it_leads_to_is_left(tmp_path: Path, canary: Path) -> None:
    output = tmp_path / "out"
    publish(output, "checkpoint/a", "a")
    shutil.move(output / "checkpoint", canary / "checkpoint")
    (canary / "checkpoint" / "precious.txt").write_text("precious")
    (output / "checkpoint").symlink_to(canary / "checkpoint")
    with pytest.raises(OutputFolderError, match="checkpoint is a symbolic link, through which nothing is written"):
        publish(output, "checkpoint/a", "b")
    assert (output / "checkpoint").is_symlink()
    assert {x.name: x.read_text() for x in (canary / "checkpoint").iterdir()} == {"a": "a", "precious.txt": "precious"}


@pytest.mark.parametrize("place", [WORK, f"{WORK}/run-1", f"{WORK}/work.json", f"{WORK}/lock"])
def test_work_is_not_done_behind_a_link(place: str, tmp_path: Path, canary: Path) -> None:
    link = tmp_path / "out" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(canary)
    with pytest.raises(OutputFolderError, match="is a symbolic link, through which nothing is written"):
        publish(tmp_path / "out", "plan.json", "x")
    assert [path.name for path in canary.iterdir()] == ["precious.txt"]


def test_links_in_unfinished_work_are_removed_and_not_followed(tmp_path: Path, canary: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), Workspace.open(output) as workspace:
        workspace.scratch("one").rmdir()
        (run_folder(output) / "scratch" / "one").symlink_to(canary)
        raise KeyboardInterrupt
    with Workspace.open(output) as workspace:
        (workspace.scratch("one") / "step").write_text("finished")
    assert [path.name for path in canary.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("name", ["../precious", "/etc/passwd", "a/../../precious"])
def test_what_a_run_left_to_be_done_reaches_only_into_its_folder(name: str, tmp_path: Path) -> None:
    output, precious = tmp_path / "out", tmp_path / "precious"
    precious.write_text("precious")
    for changed in ({"removed": [name]}, {"moves": [{"source": "x", "target": name}]}, {"record": name}, {"files": 1}):
        with pytest.raises(KeyboardInterrupt), Workspace.open(output) as workspace:
            workspace.begin("one")
            raise KeyboardInterrupt
        values = {"record": MANIFEST, "moves": [], "removed": [], "files": [], **changed}
        (run_folder(output) / PUBLICATION).write_text(json.dumps(values))
        with pytest.raises(OutputFolderError, match="does not say how to complete the run"):
            publish(output, "plan.json", "x")
        assert precious.read_text() == "precious"
        shutil.rmtree(output)


@pytest.mark.parametrize("name", ["../canary", "..", "a/../../canary", "/", ""])
def test_a_repositorys_record_names_no_folder_outside(
    name: str, built: Outcome, cli: Cli, tmp_path: Path, canary: Path
) -> None:
    repository = tmp_path / "models"
    assert cli("triton", built.output, "--backend", "python", "-o", repository) == 0
    values = json.loads((repository / REPOSITORY_RECORD).read_text())
    values["encoders"][0]["name"] = name
    (repository / REPOSITORY_RECORD).write_text(json.dumps(values))
    with pytest.raises(OutputFolderError), write_folder(repository):
        pass
    assert (canary / "precious.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("config.json", "[" * 50_000, "cannot be read as JSON: maximum recursion depth"),
        ("config.json", '{"model_type": "bert", "architectures": 1.5}', "is a bert without a head"),
        ("config.json", '{"model_type": "bert", "hidden_size": "wide"}', "config.json is not a sound configuration: "),
        ("config.json", '{"model_type": "bert", "num_attention_heads": 0}', "cannot be loaded: "),
        ("tokenizer.json", '{"version": 3}', "The tokenizer in "),
        ("tokenizer_config.json", '{"model_max_length": [1]}', "The tokenizer in "),
    ],
)  # fmt: skip
def test_a_damaged_checkpoint(
    name: str,
    content: str,
    problem: str,
    cli: Cli,
    classifier: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "model"))
    values = json.loads((folder / name).read_text())
    whole = content if content.startswith("[") else json.dumps({**values, **json.loads(content)})
    (folder / name).write_text(whole)
    (tmp_path / "texts.txt").write_text("one", encoding="utf-8")
    assert cli("prune", folder, "-o", tmp_path / "out", "--calibration", tmp_path / "texts.txt") == 2
    err = capsys.readouterr().err
    assert problem in err
    assert len(err.splitlines()) == 1


def test_a_configuration_larger_than_its_weights(
    cli: Cli, built: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a model of that size would be made in memory before the weights were seen not to fit."""
    folder = Path(shutil.copytree(built.output / "checkpoint", tmp_path / "model"))
    whole = json.loads((folder / "config.json").read_text())
    for change, problem in (
        ({"num_hidden_layers": 9000}, "says 9000 layers, but the weights are"),
        ({"vocab_size": 2**31}, "says vocab_size 2147483648, but no tensor of the weights has that size"),
        ({"pad_token_id": 2**31}, "Padding_idx must be within num_embeddings"),
        ({"num_labels": 2**31}, "num_labels is 2147483648, and at most 1000000 is taken"),
        ({"num_hidden_layers": 2**31}, "num_hidden_layers is 2147483648, and at most 10000 is taken"),
    ):
        (folder / "config.json").write_text(json.dumps({**whole, **change}))
        assert cli("export", folder, "-o", tmp_path / "out") == 2
        assert problem in capsys.readouterr().err


@pytest.mark.parametrize("declared", ['{"pooling_mode": 3}', '{"pooling_mode": [1]}', "[]", "null", '"mean"'])
def test_a_damaged_pooling(
    declared: str, cli: Cli, embedder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(embedder, tmp_path / "model"))
    (folder / "1_Pooling" / "config.json").write_text(declared)
    (tmp_path / "texts.txt").write_text("one", encoding="utf-8")
    assert cli("prune", folder, "-o", tmp_path / "out", "--calibration", tmp_path / "texts.txt") == 2
    assert "config.json" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["seed: 2001-02-30", "seed: " + "1" * 5000, "seed: " + "[" * 3000, "a: &a [*a]", "\0"])
def test_yaml_that_python_cannot_hold(text: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        Recipe.build(file, {"model": "m", "output": tmp_path})
    assert len(message_of(caught.value)) < 2100


def test_aliases_that_unfold_without_end_are_not_printed_whole(tmp_path: Path) -> None:
    nests = ["&a0 [x, x]", *(f"&a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    file = tmp_path / "recipe.yaml"
    file.write_text(f"seed: [{', '.join(nests)}]")
    with pytest.raises(RecipeError, match="'seed' is not valid"):
        Recipe.build(file, {"model": "m", "output": tmp_path})


def bundle_with(built: Outcome, report: str, content: bytes, folder: Path) -> Path:
    """Return a copy of a bundle with another report, which its manifest lists as it is."""
    bundle = Path(shutil.copytree(built.output, folder / "bundle"))
    (bundle / report).write_bytes(content)
    [new] = record_files(bundle, [report], reproducible=True)
    files = tuple(new if file.path == report else file for file in built.manifest.files)
    (bundle / MANIFEST).write_text(built.manifest.model_copy(update={"files": files}).to_json())
    return bundle


@pytest.mark.parametrize("report", ["parity.json", "onnx/graphs.json"])
def test_a_report_that_is_none(
    report: str, cli: Cli, built: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundle_with(built, report, b"\xff", tmp_path)
    for command in (("diff", bundle, bundle), ("triton", bundle, "--backend", "python", "-o", tmp_path / "out")):
        assert cli(*command) == 2
        assert f"{report} is not a valid file of reports" in capsys.readouterr().err
    variants = built.manifest.model_copy(update={"variants": ("../x",)})
    (bundle / report).write_bytes((built.output / report).read_bytes())
    (bundle / MANIFEST).write_text(variants.to_json())
    assert cli("triton", bundle, "-o", tmp_path / "out") == 2
    assert "names the variant '../x', which this version does not know" in capsys.readouterr().err


@pytest.mark.parametrize("report", ["parity.json", "onnx/graphs.json"])
def test_a_report_that_leaves_a_variant_out(
    report: str, cli: Cli, built: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundle_with(built, report, b'{"variants": {}}', tmp_path)
    assert cli("triton", bundle, "--backend", "python", "-o", tmp_path / "out") == 2
    assert f"{report} says nothing of onnxruntime-fp32: build the bundle again." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_names_that_cannot_be_printed_are_quoted(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path / "out", "plan.json", "x")
    (tmp_path / "out" / os.fsdecode(b"\xff\x1b[2J\n")).write_text("")
    (tmp_path / "out" / "signature.sig").mkdir()
    (tmp_path / "out" / "signature.sig" / "hidden").write_text("")
    assert cli("verify", tmp_path / "out") == 2
    out = capsys.readouterr().out
    assert r"+ extra   '\udcff\x1b[2J\n'" in out
    assert "+ extra   signature.sig/hidden" in out


def test_messages_are_one_line_and_not_endless() -> None:
    text = message_of(RecipeError("a\n  b " + "x" * 10_000))
    assert text.startswith("a b xxx")
    assert len(text) == 2001


def test_a_million_layers_are_not_listed(
    cli: Cli, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "model"))
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "num_hidden_layers": 2**63}))
    assert cli("inspect", folder) == 2
    assert "at most 10000 is taken" in capsys.readouterr().err


def test_a_module_with_an_endless_name(
    cli: Cli, embedder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(embedder, tmp_path / "model"))
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "x" * 5000
    (folder / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "texts.txt").write_text("one", encoding="utf-8")
    assert cli("prune", folder, "-o", tmp_path / "out", "--calibration", tmp_path / "texts.txt") == 2
    assert "names a path that cannot be read: File name too long" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["[/x]", "[bold]", ":bug:", "[link=file:///etc/passwd]a[/link]"])
def test_text_out_of_files_is_no_markup(
    task: str, cli: Cli, built: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(built.output, tmp_path / "[red]"))
    values = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**values, "task": task}))
    for command in (("inspect", bundle), ("verify", bundle), ("diff", bundle, built.output)):
        assert cli(*command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert task in printed
    assert "[red]" in printed
