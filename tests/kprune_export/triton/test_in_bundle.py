"""A bundle that holds its own repository."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kprune_export.bundle.inputs import repeatable_settings
from kprune_export.bundle.verify import verify_bundle
from kprune_export.errors import BundleError, RecipeError
from kprune_export.pipeline.run import Outcome, prune_and_build
from kprune_export.recipe.recipe import Recipe
from kprune_export.triton.repository_record import RepositoryRecord

MakeCheckpoint = Callable[..., Path]
MakeRecipe = Callable[..., Recipe]
Cli = Callable[..., int]


@pytest.fixture(scope="module")
def with_repository(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    output = tmp_path_factory.mktemp("with") / "bundle"
    asked = {"triton": True, "triton_backend": "python", "triton_name": "sst"}
    return prune_and_build(make_recipe(classifier, output, texts_file).model_copy(update=asked))


def test_the_bundle_holds_the_repository_of_its_own_files(with_repository: Outcome) -> None:
    bundle = with_repository.output
    manifest, difference = verify_bundle(bundle)
    assert not difference
    record = RepositoryRecord.of_repository(bundle / "triton")
    assert [x.name for x in record.encoders] == ["sst-onnxruntime-fp32"]
    assert record.encoders[0].backend == "python"
    assert (record.plan_sha256, record.verdict) == (manifest.plan_sha256, manifest.verdict_in_words)
    listed = {x.path: x for x in manifest.files}
    (config,) = record.encoders[0].configs  # of the machine that built it
    assert f"triton/sst-onnxruntime-fp32/configs/{config.name}.pbtxt" in listed
    served = listed["triton/sst-onnxruntime-fp32/1/model.onnx"]
    assert served.sha256 == listed["onnx/model.onnx"].sha256
    assert {f"triton/{x.path}" for x in record.files} < set(listed)
    assert all((bundle / "triton" / name / "1").is_dir() for name in record.models)
    assert all(any(x.startswith(f"triton/{name}/1/") for x in listed) for name in record.models)  # no empty folders
    assert "triton" in [stage.name for stage in manifest.stages]


def test_a_server_serves_it_and_leaves_the_bundle_as_it_is(
    server: str, with_repository: Outcome, texts_file: Path, cli: Cli, capsys: Any
) -> None:
    bundle = with_repository.output
    options = ("--bundle", bundle, "--server", server, "--texts", texts_file, "--requests", 4)
    assert cli("serve-check", bundle / "triton", *options) == 0
    assert "every answer is right" in capsys.readouterr().out
    assert not verify_bundle(bundle)[1]


def test_it_is_written_again_only_where_something_changed(with_repository: Outcome, cli: Cli, capsys: Any) -> None:
    bundle = with_repository.output
    recipe = repeatable_settings(bundle)
    assert recipe["triton_backend"] == "python"
    again = bundle.parent / "again"
    shutil.copytree(bundle, again)
    model = again / "triton" / "sst-onnxruntime-fp32" / "1" / "model.onnx"
    model.write_bytes(b"changed")
    assert cli("verify", again) != 0
    capsys.readouterr()
    settings = Recipe.build(None, {**recipe, "output": again, "threads": 2})
    assert not verify_bundle(prune_and_build(settings).output)[1]
    without = {"triton": False, "triton_backend": None, "triton_name": "encoder"}
    prune_and_build(settings.model_copy(update=without))
    assert not (again / "triton").exists()


def test_what_would_stop_it_at_the_end_stops_it_at_the_beginning(
    classifier: Path, make_checkpoint: MakeCheckpoint, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    def asked(model: Path = classifier, **settings: Any) -> Recipe:
        return make_recipe(model, tmp_path / "bundle", texts_file).model_copy(update=settings)

    with pytest.raises(RecipeError, match="triton_backend is given, but no repository is asked for: add --triton"):
        prune_and_build(asked(triton_backend="python"))
    with pytest.raises(RecipeError, match="'a/b' cannot name a model"):
        prune_and_build(asked(triton=True, triton_name="a/b"))
    with pytest.raises(BundleError, match="tensorrt can serve none"):
        prune_and_build(asked(triton=True, triton_backend="tensorrt"))
    words = make_checkpoint(head="ForMaskedLM")
    with pytest.raises(BundleError, match="not there for masked language modelling.*--no-triton-text"):
        prune_and_build(asked(words, triton=True))
    assert not (tmp_path / "bundle").exists()
