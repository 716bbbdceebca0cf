"""Runs whose results would be about something else than the user's model and texts: refused, or said beside them."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import MAX_TOKENS

from kprune_export.bundle.manifest import Manifest
from kprune_export.errors import BundleError, ExitCode
from kprune_export.pipeline.run import Outcome, SilentReporter, prune, prune_and_build, validate
from kprune_export.pipeline.stages.stage import ShareDone
from kprune_export.recipe.recipe import Recipe
from pruning import load_checkpoint
from pruning.calibration.docstrings import docstring_examples
from pruning.calibration.examples import Example
from pruning.errors import CheckpointError
from pruning.prune import prune_checkpoint
from pruning.settings import PruningSettings

Cli = Callable[..., int]
MakeCheckpoint = Callable[..., Path]
MakeRecipe = Callable[..., Recipe]
QUICK = ("--samples", 150, "--sequence-length", 16, "--shapes", "1x8", "--timing-seconds", 0.1, "--threads", 2)


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def set_max_length(folder: Path, tokens: int) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": tokens}))


@pytest.mark.parametrize("task", ["prune", "export", "prune-and-build"])
def test_a_checkpoint_without_its_vocabulary_comes_to_nothing(
    task: str, cli: Cli, classifier: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copied(classifier, tmp_path)
    (model / "tokenizer.json").unlink()
    texts = () if task == "export" else ("--calibration", texts_file)
    assert cli(task, model, "-o", tmp_path / "out", *texts) == ExitCode.BAD_INPUT
    assert "has no tokenizer files" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_texts_that_the_tokenizer_does_not_know_come_to_nothing(
    cli: Cli, classifier: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign.txt"
    foreign.write_text("\n".join(f"это очень хороший фильм {n}" for n in range(300)), encoding="utf-8")
    for texts in (("--calibration", foreign), ("--calibration", texts_file, "--evaluation", foreign)):
        assert cli("prune-and-build", classifier, "-o", tmp_path / "out", *texts, *QUICK) == ExitCode.BAD_INPUT
        assert "does not know 100% of the" in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "out").exists()


def test_default_texts_are_named_where_a_gate_depends_on_them(
    cli: Cli, make_checkpoint: MakeCheckpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the verdict, the report, the manifest, the JUnit file and on standard error."""
    words = {word.strip(".,;:!?'\"()%/").lower() for x in docstring_examples(190, 0) for word in x.text.split()}
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,;:!?'\"()%/-", *sorted(words - set("-"))]
    tokenizer = transformers.BertTokenizer(vocab={token: n for n, token in enumerate(dict.fromkeys(tokens))})
    tokenizer.model_max_length = MAX_TOKENS
    model = Path(shutil.copytree(make_checkpoint(vocab_size=len(tokenizer)), tmp_path / "model"))
    tokenizer.save_pretrained(model)
    output, junit = tmp_path / "out", tmp_path / "junit.xml"
    arguments = ("prune-and-build", model, "-o", output, *QUICK, "--held-out", 40, "--junit", junit)
    assert cli(*arguments, "--min-agreement", 0.1) == 0
    shown = capsys.readouterr()
    assert "--min-agreement will be checked on the default texts" in " ".join(shown.err.split())
    clause = "fidelity was measured on the default texts, sentences from docstrings, which may be unlike yours"
    manifest = Manifest.of_bundle(output)
    assert str(manifest.verdict_in_words).startswith(f"passed: parity holds, and every gate; {clause}")
    assert f"Verdict: passed: parity holds, and every gate; {clause}" in " ".join(shown.out.split())
    assert (output / "report.html").read_text().count(clause) == 2  # the verdict, and the gate
    assert clause in junit.read_text()
    assert manifest.held_out is not None
    assert 0 <= manifest.held_out.unknown_share < 0.03


def test_no_caveat_where_texts_are_given_or_nothing_depends_on_them(
    cli: Cli, built: Outcome, classifier: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "default texts" not in (built.output / "report.html").read_text()
    arguments = ("--min-agreement", 0.1, "--shapes", "1x4", "--timing-seconds", 0.1, "--threads", 2)
    assert cli("validate", built.output, *arguments, "-o", tmp_path / "again") == 0
    assert "default texts" not in "".join(capsys.readouterr())
    assert str(Manifest.of_bundle(tmp_path / "again").verdict_in_words).startswith(
        "passed: parity holds, and every gate"
    )


def test_a_rerun_takes_a_changed_tokenizer(
    classifier: Path, texts_file: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    """Which decides how long texts are, and so what is pruned."""
    model = copied(classifier, tmp_path)
    recipe = make_recipe(model, tmp_path / "out", texts_file)
    before = prune(recipe)
    set_max_length(model, 6)
    again, fresh = prune(recipe), prune(make_recipe(model, tmp_path / "fresh", texts_file))
    assert again.plan is not None
    assert before.plan is not None
    assert again.plan == fresh.plan
    assert again.plan.calibration.tokens < before.plan.calibration.tokens
    assert before.manifest.source.companions.keys() == {"tokenizer.json", "tokenizer_config.json"}


def test_unfinished_work_is_not_taken_over_with_another_tokenizer(
    classifier: Path, make_sentences: Callable[..., list[str]], tmp_path: Path
) -> None:
    model, texts = copied(classifier, tmp_path), [Example(text) for text in make_sentences(60, length=20)]
    settings = PruningSettings(flops_reduction=0.5, sequence_length=16)

    def stop(share: float) -> None:
        if share > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune_checkpoint(load_checkpoint(model), texts, settings, journal_folder=tmp_path / "journal", progress=stop)
    assert list((tmp_path / "journal").glob("*.safetensors"))
    set_max_length(model, 6)
    resumed, fresh = load_checkpoint(model), load_checkpoint(model)
    plan = prune_checkpoint(resumed, texts, settings, journal_folder=tmp_path / "journal")
    assert plan == prune_checkpoint(fresh, texts, settings)
    weights = fresh.model.state_dict()
    assert all(torch.equal(x, weights[name]) for name, x in resumed.model.state_dict().items())


def test_validation_compares_all_files_of_the_dense_model(
    built: Outcome, classifier: Path, texts_file: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    model = copied(classifier, tmp_path)
    recipe = make_recipe(model, tmp_path / "out", texts_file)
    set_max_length(model, 32)
    with pytest.raises(BundleError, match=r"made from: tokenizer_config.json differs from what the manifest records"):
        validate(built.output, recipe)
    config = model / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"layer_norm_eps": 1e-3}))
    with pytest.raises(BundleError, match=r"made from: config.json, tokenizer_config.json differ from"):
        validate(built.output, recipe)


class Overwriting(SilentReporter):
    """Overwrites a model's weights when a run begins a stage, as a training job does."""

    def __init__(self, model: Path, title: str) -> None:
        self.model = model
        self.title = title

    @contextmanager
    def stage(self, number: int, total: int, title: str) -> Iterator[ShareDone]:
        if title == self.title:
            path = self.model / "model.safetensors"
            save_file({name: 1.1 * x for name, x in load_file(path).items()}, path, {"format": "pt"})
        yield lambda _: None


@pytest.mark.parametrize("title", ["Exporting to ONNX", "Checking the dense baseline's parity"])
def test_weights_that_are_overwritten_end_the_run(
    title: str, classifier: Path, texts_file: Path, tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    model = copied(classifier, tmp_path)
    recipe = make_recipe(model, tmp_path / "out", texts_file)
    with pytest.raises(CheckpointError, match=r"^the weights in .* changed during the run, so its results would be"):
        prune_and_build(recipe, Overwriting(model, title))
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_code_that_is_not_run_is_named_in_manifest_and_report(
    cli: Cli, classifier: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copied(classifier, tmp_path)
    config = model / "config.json"
    declared = {"auto_map": {"AutoModelForSequenceClassification": "modeling_own.OwnModel"}}
    config.write_text(json.dumps(json.loads(config.read_text()) | declared))
    output = tmp_path / "out"
    assert cli("prune-and-build", model, "-o", output, "--calibration", texts_file, "--held-out", 40, *QUICK) == 0
    assert "(modeling_own.OwnModel), which is not run" in " ".join(capsys.readouterr().err.split())
    (note,) = Manifest.of_bundle(output).notes
    assert "code of its own in config.json (modeling_own.OwnModel), which is not run" in note
    assert "(modeling_own.OwnModel), which is not run" in (output / "report.html").read_text()
    assert load_checkpoint(output / "checkpoint").notes == ()  # what we ship names our own code, which is known


def test_a_manifest_permits_nothing(
    cli: Cli,
    built: Outcome,
    classifier: Path,
    texts_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A bundle may come from anybody: whether pickles are read is for the user to say."""
    bundle = Path(shutil.copytree(built.output, tmp_path / "bundle"))
    model = copied(classifier, tmp_path)
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    torch.save(weights, model / "pytorch_model.bin")
    manifest = Manifest.of_bundle(bundle)
    recipe = {**manifest.recipe, "allow_pickle": True}
    (bundle / "manifest.json").write_text(manifest.model_copy(update={"recipe": recipe}).to_json())
    assert cli("verify", bundle) == 0
    texts = ("--dense", model, "--calibration", texts_file)
    assert cli("validate", bundle, *texts, "--shapes", "1x4") == ExitCode.BAD_INPUT
    assert "are pickled (pytorch_model.bin)" in " ".join(capsys.readouterr().err.split())
