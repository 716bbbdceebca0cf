"""What a repository holds, by Triton's own schema, and what is refused."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import json_format

from exporters.errors import MissingRuntimeError
from kprune_export.bundle.layout import REPOSITORY_RECORD, WORK
from kprune_export.errors import BundleError, OutputFolderError, RecipeError, VerificationError
from kprune_export.pipeline.run import Outcome, prune_and_build
from kprune_export.recipe.recipe import Recipe
from kprune_export.triton import repository
from kprune_export.triton.config import read_config
from kprune_export.triton.encoders import choose_variants
from kprune_export.triton.repository import RepositoryRequest, write_repository
from kprune_export.triton.repository_record import RepositoryRecord
from kprune_export.triton.text import text_record
from pruning.checkpoint.load import load_checkpoint
from pruning.checkpoint.source import file_sha256

MakeCheckpoint = Callable[..., Path]
MakeRecipe = Callable[..., Recipe]
Cli = Callable[..., int]


def config(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json_format.MessageToDict(read_config(folder), preserving_proto_field_name=True)
    return read


def tensors(values: list[dict[str, Any]]) -> list[tuple[str, str, list[str]]]:
    return [(x["name"], x["data_type"], x["dims"]) for x in values]


@pytest.fixture(scope="module")
def engine_bundle(
    tensorrt: None,
    classifier: Path,
    texts_file: Path,
    make_recipe: MakeRecipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    recipe = make_recipe(classifier, tmp_path_factory.mktemp("engine") / "bundle", texts_file)
    asked = {"runtime": "onnxruntime,tensorrt", "profile": ["min=1x2,opt=4x16,max=8x64", "min=1x2,opt=2x8,max=16x32"]}
    return prune_and_build(Recipe.build(None, recipe.model_dump() | asked)).output


def test_names_dtypes_and_shapes_are_the_artefacts_own(classifier_repository: Path, embedder_repository: Path) -> None:
    for folder, output in (
        (classifier_repository / "classifier-onnxruntime-fp32", "logits"),
        (embedder_repository / "embedder-onnxruntime-fp32", "sentence_embedding"),
    ):
        found = config(folder)
        graph = onnx.load(folder / "1" / "model.onnx").graph
        assert [x["name"] for x in found["input"]] == [x.name for x in graph.input]
        assert {(x["data_type"], *x["dims"]) for x in found["input"]} == {("TYPE_INT64", "-1")}
        width = str(graph.output[0].type.tensor_type.shape.dim[1].dim_value)
        assert tensors(found["output"]) == [(output, "TYPE_FP32", [width])]
        assert found["backend"] == "python"
        assert found["max_batch_size"] == 8  # the largest batch that parity compares
        assert found["version_policy"] == {"latest": {"num_versions": 1}}
        assert [x["kind"] for x in found["instance_group"]] == ["KIND_CPU"]
        assert all(x["allow_ragged_batch"] for x in found["input"])


def test_warm_up_requests_have_the_timed_shapes_and_nothing_masked(classifier_repository: Path) -> None:
    folder = classifier_repository / "classifier-onnxruntime-fp32"
    found = config(folder)["model_warmup"]
    assert [(x["name"], x["batch_size"]) for x in found] == [("1x8", 1), ("2x16", 2)]
    assert found[1]["inputs"]["input_ids"] == {"data_type": "TYPE_INT64", "dims": ["16"], "zero_data": True}
    mask = np.fromfile(folder / "warmup" / found[1]["inputs"]["attention_mask"]["input_data_file"], np.int64)
    assert mask.tolist() == [1] * 32


def test_texts_go_through_tokenizer_encoder_and_answers(classifier_repository: Path, embedder_repository: Path) -> None:
    found = config(classifier_repository / "classifier-onnxruntime-fp32-text")
    assert found["platform"] == "ensemble"
    assert tensors(found["input"]) == [("text", "TYPE_STRING", ["1"])]
    assert tensors(found["output"]) == [("labels", "TYPE_STRING", ["2"]), ("scores", "TYPE_FP32", ["2"])]
    steps = [step["model_name"] for step in found["ensemble_scheduling"]["step"]]
    assert steps == ["classifier-tokenizer", "classifier-onnxruntime-fp32", "classifier-answers"]
    for name in steps:  # every step's tensors are the model's own
        model, step = config(classifier_repository / name), found["ensemble_scheduling"]["step"][steps.index(name)]
        assert set(step["input_map"]) == {x["name"] for x in model["input"]}
        assert set(step["output_map"]) == {x["name"] for x in model["output"]}
    ((name, dtype, _),) = tensors(config(embedder_repository / "embedder-onnxruntime-fp32-text")["output"])
    assert (name, dtype) == ("embedding", "TYPE_FP32")


def test_the_record_lists_every_file(classifier_repository: Path) -> None:
    record = RepositoryRecord.of_repository(classifier_repository)
    files = {x.path: x.sha256 for x in record.files}
    found = {x.relative_to(classifier_repository).as_posix() for x in classifier_repository.rglob("*") if x.is_file()}
    assert set(files) == found - {REPOSITORY_RECORD}
    assert all(file_sha256(classifier_repository / path) == sha256 for path, sha256 in files.items())
    assert {x.name for x in classifier_repository.iterdir()} == {*record.models, REPOSITORY_RECORD}


def test_engines_are_served_by_their_profiles_and_graphs_by_onnxruntime(engine_bundle: Path, tmp_path: Path) -> None:
    record = write_repository(RepositoryRequest(bundle=engine_bundle, output=tmp_path / "models", text=True))
    engine = config(tmp_path / "models" / "encoder-tensorrt-fp32")
    assert (engine["backend"], engine["default_model_filename"]) == ("tensorrt", "model.plan")
    assert engine["max_batch_size"] == 8  # at 64 tokens
    assert engine["instance_group"] == [{"count": 1, "kind": "KIND_GPU", "profile": ["0", "1"]}]
    assert engine["dynamic_batching"] == {"preferred_batch_size": [2, 4]}
    assert [x["name"] for x in engine["model_warmup"]] == ["1x2", "2x8", "4x16", "8x64"]
    plan = tmp_path / "models" / "encoder-tensorrt-fp32" / "1" / "model.plan"
    assert file_sha256(plan) == file_sha256(engine_bundle / "engines" / "model-tensorrt-fp32.plan")
    graph = config(tmp_path / "models" / "encoder-onnxruntime-fp32")
    assert (graph["backend"], graph["default_model_filename"]) == ("onnxruntime", "model.onnx")
    assert graph["parameters"] == {"intra_op_thread_count": {"string_value": "2"}}
    assert record.text is not None
    assert (record.text.min_tokens, record.text.max_tokens, record.text.max_batch) == (2, 64, 8)


def test_variants_and_backends_that_do_not_fit_are_refused() -> None:
    there = ("onnxruntime-fp32", "tensorrt-fp16")
    assert list(map(str, choose_variants(there, (), "python"))) == ["onnxruntime-fp32"]
    with pytest.raises(BundleError, match="has no onnxruntime-int8: its variants are onnxruntime-fp32, tensorrt-fp16"):
        choose_variants(there, ("onnxruntime-int8",), None)
    with pytest.raises(BundleError, match="python cannot serve tensorrt-fp16"):
        choose_variants(there, ("tensorrt-fp16",), "python")
    with pytest.raises(BundleError, match="tensorrt can serve none"):
        choose_variants(there[:1], (), "tensorrt")


@pytest.mark.parametrize(
    ("settings", "activation", "sent", "got"),
    [
        ({"labels": ("a", "b", "c"), "problem_type": "multi_label_classification"}, "sigmoid", 1, ["labels", "scores"]),
        ({"labels": ("a",), "problem_type": "regression"}, "none", 1, ["scores"]),
        ({"labels": ("a",)}, "none", 2, ["scores"]),
    ],
    ids=["multi label", "regression", "reranking"],
)
def test_each_task_has_its_answers(
    make_checkpoint: MakeCheckpoint,
    classifier_repository: Path,
    settings: dict[str, Any],
    activation: str,
    sent: int,
    got: list[str],
) -> None:
    checkpoint = load_checkpoint(make_checkpoint(**settings))
    found = text_record(checkpoint, RepositoryRecord.of_repository(classifier_repository).encoders, "x", pairs=False)
    assert (found.activation, len(found.inputs), [x.name for x in found.outputs]) == (activation, sent, got)
    assert (found.answers is None) is (activation == "none")


def test_tasks_without_answers_and_wrong_tokenizers_are_refused(
    make_checkpoint: MakeCheckpoint, classifier_repository: Path
) -> None:
    encoders = RepositoryRecord.of_repository(classifier_repository).encoders
    masked = load_checkpoint(make_checkpoint(head="ForMaskedLM"))
    with pytest.raises(BundleError, match="not there for masked language modelling, only for .*--no-text"):
        text_record(masked, encoders, "x", pairs=False)
    tokens = load_checkpoint(make_checkpoint(head="ForTokenClassification"))
    with pytest.raises(BundleError, match="for token classification reads one text at a time: leave out --pairs"):
        text_record(tokens, encoders, "x", pairs=True)
    folder = make_checkpoint()
    checkpoint = load_checkpoint(folder)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"film"', '"filn"'))
    with pytest.raises(BundleError, match="gives other input_ids than the checkpoint's tokenizer for the text 'a good"):
        text_record(checkpoint, encoders, "x", pairs=False)
    path.unlink()
    with pytest.raises(BundleError, match="is missing, which a server reads texts with"):
        text_record(checkpoint, encoders, "x", pairs=False)


def test_an_earlier_repository_is_replaced_and_nothing_else(built: Outcome, tmp_path: Path) -> None:
    output = tmp_path / "models"
    write_repository(RepositoryRequest(bundle=built.output, output=output, name="first"))
    write_repository(RepositoryRequest(bundle=built.output, output=output, name="second", text=False))
    assert sorted(x.name for x in output.iterdir()) == [REPOSITORY_RECORD, "second-onnxruntime-fp32"]
    (output / "mine").mkdir()
    with pytest.raises(OutputFolderError, match="holds 'mine', which is not part of a repository of this program"):
        write_repository(RepositoryRequest(bundle=built.output, output=output))
    with pytest.raises(RecipeError, match="'a/b' cannot name a model"):
        write_repository(RepositoryRequest(bundle=built.output, output=output, name="a/b"))


def test_a_failure_leaves_nothing_half_written(built: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, written = tmp_path / "new" / "models", []

    def full(config: Any, folder: Path) -> None:
        assert folder.parent.parent.parent == output / WORK
        written.append(folder)
        if len(written) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(repository, "write_config", full)
    with pytest.raises(OSError, match="No space"):
        write_repository(RepositoryRequest(bundle=built.output, output=output))
    assert len(written) == 3
    assert not list(tmp_path.iterdir())


def test_bundles_that_changed_are_refused(built: Outcome, tmp_path: Path, cli: Cli, capsys: Any) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(built.output, bundle)
    (bundle / "plan.json").write_text("{}")
    with pytest.raises(VerificationError, match="changed plan.json"):
        write_repository(RepositoryRequest(bundle=bundle, output=tmp_path / "models"))
    assert cli("triton", bundle, "-o", tmp_path / "models", "--json") == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


def test_the_command_says_how_it_decided(built: Outcome, tmp_path: Path, cli: Cli, capsys: Any) -> None:
    assert cli("triton", built.output, "-o", tmp_path / "models", "--backend", "python") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "batches to 8: the largest that was compared with torch or timed" in shown
    assert "encoder-onnxruntime-fp32-text: text in, labels, scores out." in shown
    needed = "The server needs the backend python, its Python the packages numpy, onnxruntime and tokenizers."
    assert needed in shown
    assert cli("triton", built.output, "-o", tmp_path / "models", "--no-text") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "The server needs the backend onnxruntime. Without the backend onnxruntime: --backend python." in shown


def test_without_tritonclient_it_says_what_to_install(
    built: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(MissingRuntimeError, match=r'pip install "kprune-export\[triton\]"'):
        write_repository(RepositoryRequest(bundle=built.output, output=tmp_path / "models"))
