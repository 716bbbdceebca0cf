"""Repositories on a real Triton server, over HTTP and gRPC, beside the pruned checkpoints in torch."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc
from google.protobuf import text_format
from onnx import numpy_helper
from tiny_models import WORDS

from exporters.errors import MissingRuntimeError
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
from kprune_export.errors import BundleError
from kprune_export.pipeline.run import Outcome
from kprune_export.triton.check import Load, check_server
from kprune_export.triton.clients import open_client
from kprune_export.triton.config import CONFIG, read_config
from kprune_export.triton.repository import RepositoryRequest, write_repository
from kprune_export.triton.server import Endpoints, running_server
from pruning.calibration.examples import Example, read_examples

Cli = Callable[..., int]
MERGED = "merged-onnxruntime-fp32"
DELAY_US = 200_000


@pytest.fixture(scope="module")
def merged_repository(built: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier, with requests held back so long that those sent together are merged."""
    output = tmp_path_factory.mktemp("served") / "merged"
    request = RepositoryRequest(bundle=built.output, output=output, name="merged", backend="python", text=False)
    write_repository(request)
    config = read_config(output / MERGED)
    config.dynamic_batching.preferred_batch_size.append(8)
    config.dynamic_batching.max_queue_delay_microseconds = DELAY_US
    (output / MERGED / CONFIG).write_text(text_format.MessageToString(config))
    return output


@pytest.fixture(scope="module")
def endpoints(
    server: str, classifier_repository: Path, embedder_repository: Path, merged_repository: Path
) -> Iterator[Endpoints]:
    others = [f"--model-repository={path}" for path in (embedder_repository, merged_repository)]
    with running_server(classifier_repository, server, others) as running:
        yield running


@pytest.fixture(scope="module")
def examples(texts_file: Path) -> list[Example]:
    return [*read_examples(texts_file), Example("Über naïve 漢字"), Example(""), Example("good film " * 100)]


def test_a_classifier_answers_as_torch_does(
    built: Outcome, classifier_repository: Path, endpoints: Endpoints, examples: list[Example]
) -> None:
    report = check_server(classifier_repository, endpoints, "", examples, built.output, Load(16, 4))
    assert [row.failures for row in report.rows] == [()] * 4
    assert report.reference == "the pruned checkpoint in torch"
    names = ("classifier-onnxruntime-fp32", "classifier-onnxruntime-fp32-text")
    assert [(x.model, x.protocol) for x in report.rows] == [(name, by) for name in names for by in ("http", "grpc")]
    assert all(0 < row.max_abs_error <= row.tolerance < 1e-3 for row in report.rows)
    assert all(row.requests == 16 < row.texts for row in report.rows)


def test_its_python_imports_nothing_from_the_working_directory_and_reports_nothing(
    server: str, classifier_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "tokenizers", "onnxruntime", "unicodedata", "json", "model", "pathlib"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    repository = Path(os.path.relpath(classifier_repository))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("ORT_DISABLE_TELEMETRY", "CI"):
        monkeypatch.delenv(name, raising=False)
    with running_server(repository, os.path.relpath(server)):
        pass
    assert not (tmp_path / "ran").exists()
    assert list((tmp_path / "home").rglob("*")) == []  # ONNX Runtime's telemetry is off there too


def test_an_embedder_answers_as_torch_does(
    embedding_bundle: Path, embedder_repository: Path, endpoints: Endpoints, examples: list[Example]
) -> None:
    report = check_server(embedder_repository, endpoints, "", examples, embedding_bundle, Load(16, 4))
    assert [row.failures for row in report.rows] == [()] * 4
    assert endpoints.http is not None
    text = np.array([[b"a good film"], [b"dull"]], dtype=np.object_)
    with open_client("http", endpoints.http) as client:
        found = client.infer("embedder-onnxruntime-fp32-text", {"text": text}, ("embedding",))["embedding"]
    assert found is not None
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_of_a_long_text_the_beginning_is_read(endpoints: Endpoints) -> None:
    sent = ["a good film " * count for count in (100, 400_000)]  # 5 MB, of which the model reads 64 tokens
    outputs = ("labels", "scores")
    with open_client("grpc", str(endpoints.grpc)) as client:
        short, long = (
            client.infer("classifier-onnxruntime-fp32-text", {"text": np.array([[x.encode()]], np.object_)}, outputs)
            for x in sent
        )
    for name in outputs:
        assert np.array_equal(short[name], long[name])


def test_requests_of_different_lengths_are_merged_and_a_bad_one_fails_alone(
    merged_repository: Path, endpoints: Endpoints
) -> None:
    def ask(tokens: int, largest: int = len(WORDS)) -> dict[str, Any]:
        ids = np.random.default_rng(tokens).integers(0, largest, (1, tokens))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}

    def send(inputs: dict[str, Any]) -> Any:
        with open_client("grpc", str(endpoints.grpc)) as client:
            return client.infer(MERGED, inputs, ("logits",))["logits"]

    asked = [ask(tokens) for tokens in (1, 3, 9, 17, 33, 64, 20)]
    with ThreadPoolExecutor(8) as pool:
        bad = pool.submit(send, ask(5, 10**9))
        too_long = pool.submit(send, ask(65))
        uneven = pool.submit(send, ask(7) | {"attention_mask": np.ones((1, 6), np.int64)})
        found = list(pool.map(send, asked))
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="indices|out of"):
            bad.result()
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="reads 1 to 64 tokens, but 65 were sent"):
            too_long.result()
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="inputs differ in their shapes"):
            uneven.result()
    with OnnxRuntimeRunner(merged_repository / MERGED / "1" / "model.onnx") as runner:
        for inputs, logits in zip(asked, found, strict=True):
            assert logits == pytest.approx(runner.run(inputs)["logits"], abs=1e-5)
    statistics = tritonclient.grpc.InferenceServerClient(str(endpoints.grpc)).get_inference_statistics(MERGED)
    (model,) = statistics.model_stats
    assert any(batch.batch_size > 2 for batch in model.batch_stats)


def test_wrong_answers_are_seen(
    classifier_repository: Path, endpoints: Endpoints, texts_file: Path, tmp_path: Path, cli: Cli, capsys: Any
) -> None:
    other = tmp_path / "other"
    shutil.copytree(classifier_repository, other)
    path = other / "classifier-onnxruntime-fp32" / "1" / "model.onnx"
    model = onnx.load(path)
    bias = next(x for x in model.graph.initializer if list(x.dims) == [2])  # the classifier's
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32([0.01, 0]), bias.name))
    onnx.save(model, path)
    code = cli("serve-check", other, "--url", endpoints.http, "--texts", texts_file, "--requests", 2, "--json")
    report = json.loads(capsys.readouterr().out)
    assert code == 4
    assert [len(row["failures"]) for row in report["rows"]] == [2, 2]
    assert "logits is off by 1.00e-02" in report["rows"][0]["failures"][0]


def test_another_models_bundle_is_refused(
    classifier_repository: Path, embedding_bundle: Path, endpoints: Endpoints
) -> None:
    with pytest.raises(BundleError, match="was not made from .*: they hold differently pruned models"):
        check_server(classifier_repository, endpoints, "", [], embedding_bundle)


def test_the_command_starts_a_server_and_ends_it(
    server: str, classifier_repository: Path, texts_file: Path, cli: Cli, capsys: Any
) -> None:
    options = ("--server", server, "--texts", texts_file, "--requests", 4)
    assert cli("serve-check", classifier_repository, *options) == 0
    assert "every answer is right" in capsys.readouterr().out


def test_a_server_ends_with_its_check(server: str, merged_repository: Path) -> None:
    with pytest.raises(ZeroDivisionError), running_server(merged_repository, server) as running:
        host, port = str(running.http).split(":")
        socket.create_connection((host, int(port))).close()
        raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


def test_a_server_without_the_backend_says_so(server: str, built: Outcome, tmp_path: Path) -> None:
    write_repository(RepositoryRequest(bundle=built.output, output=tmp_path / "models", text=False))
    message = "before it was ready: .*'encoder-onnxruntime-fp32'.* make the repository with --backend python"
    refused = pytest.raises(MissingRuntimeError, match=message)
    with refused, running_server(tmp_path / "models", server):
        pass


def test_a_server_whose_python_lacks_a_package_says_which(
    server: str, classifier_repository: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "models"
    shutil.copytree(classifier_repository, repository)
    model = repository / "classifier-tokenizer" / "1" / "model.py"
    model.write_text(model.read_text().replace("import tokenizers", "import not_installed_here"))
    refused = pytest.raises(MissingRuntimeError, match="Install not_installed_here for the Python that the server's")
    with refused, running_server(repository, server):
        pass


def test_what_is_no_server_is_refused(classifier_repository: Path, cli: Cli, capsys: Any) -> None:
    assert cli("serve-check", classifier_repository, "--server", "/nowhere/tritonserver") == 5
    assert "/nowhere/tritonserver is not a program: name one with --server" in capsys.readouterr().err
    assert cli("serve-check", classifier_repository, "--server", "false") == 2
    assert "The Triton server ended with code 1 before it was ready: it wrote nothing" in capsys.readouterr().err
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    for flag in ("--url", "--grpc-url"):
        assert cli("serve-check", classifier_repository, flag, address) == 2
        assert f"No Triton server answers at {address}" in capsys.readouterr().err
    assert cli("serve-check", classifier_repository, "--url", address, "--server", "false") == 2
