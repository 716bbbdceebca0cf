"""Pushing bundles: huggingface_hub's own client, in a process of its own, against a small server on loopback."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_hub import TOKEN, Hub, local_hub

from kprune_export.bundle.manifest import Manifest
from kprune_export.gates import GateResult
from kprune_export.pipeline import Outcome

Cli = Callable[..., int]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with local_hub() as running:
        yield running


@pytest.fixture
def bundle(built: Outcome, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built.output, tmp_path / "bundle"))


def push(url: str, bundle: Path, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    settings = {"HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    settings |= {"HF_HOME": str(bundle.parent / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "kprune_export", "push", bundle, "me/model", *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def expected_files(bundle: Path) -> dict[str, bytes]:
    paths = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.is_file()}
    return {name.removeprefix("checkpoint/"): path.read_bytes() for name, path in paths.items()}


def test_a_dry_run_lists_everything_and_sends_nothing(
    cli: Cli, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("push", bundle, "me/model", "--dry-run", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    targets = {file["path"]: file["target"] for file in answer["files"]}
    assert targets["checkpoint/config.json"] == "config.json"
    assert targets["checkpoint/README.md"] == "README.md"
    assert targets["onnx/model.onnx"] == "onnx/model.onnx"
    assert targets["manifest.json"] == "manifest.json"
    assert set(targets.values()) == set(expected_files(bundle))
    assert answer["size_bytes"] == sum(map(len, expected_files(bundle).values()))
    assert "commit" not in answer
    assert cli("push", bundle, "me/model", "--dry-run") == 0
    assert "Nothing was sent" in capsys.readouterr().out


def test_a_push_arrives_whole_and_opens_as_a_checkpoint(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    done = push(hub.url, bundle, "--private", "--json")
    assert done.returncode == 0, done.stderr
    assert hub.private is True
    assert hub.commits == 1
    assert hub.branches["main"] == {".gitattributes": b"lfs", **expected_files(bundle)}
    assert json.loads(done.stdout)["commit"] == hub.head
    for name, content in hub.branches["main"].items():
        (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clone" / name).write_bytes(content)
    program = (
        "import sys, transformers\n"
        "transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
    )
    command = [sys.executable, "-c", program, tmp_path / "clone"]
    opened = subprocess.run(command, capture_output=True, cwd="/", check=False)
    assert opened.returncode == 0, opened.stderr
    again = push(hub.url, bundle)
    assert again.returncode == 0, again.stderr
    assert hub.commits == 1  # nothing had changed


def test_what_another_bundle_left_is_removed(hub: Hub, bundle: Path) -> None:
    old = {"onnx/model-int8.onnx": b"1", "signature.sig": b"2", "notes.md": b"mine", "engines/a.plan": b"3"}
    hub.branches["main"] |= old
    hub.private = False
    done = push(hub.url, bundle)
    assert done.returncode == 0, done.stderr
    assert hub.branches["main"] == {".gitattributes": b"lfs", "notes.md": b"mine", **expected_files(bundle)}
    assert "Removed from the repository, not being of this bundle: signature.sig" in done.stdout


def test_a_branch_of_its_own(hub: Hub, bundle: Path) -> None:
    done = push(hub.url, bundle, "--revision", "v2")
    assert done.returncode == 0, done.stderr
    assert hub.branches["main"] == {".gitattributes": b"lfs"}
    assert set(hub.branches["v2"]) == {".gitattributes", *expected_files(bundle)}


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("/upload/", marks=pytest.mark.slow),
        "/commit/",
        "/paths-info/",
    ],  # the client waits before it resends
)
def test_a_server_that_dies_is_no_success_and_a_rerun_finishes(hub: Hub, bundle: Path, place: str) -> None:
    hub.breaks_at = [place] * 20
    done = push(hub.url, bundle)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "B/s" not in done.stderr  # no bars, where there is no terminal
    assert done.stderr.splitlines()[-1].startswith("Error: The push to me/model did not finish (")
    assert hub.commits == (place == "/paths-info/")
    hub.breaks_at = []
    sent = len(hub.objects)
    hub.received.clear()
    done = push(hub.url, bundle)
    assert done.returncode == 0, done.stderr
    assert hub.commits == 1
    assert hub.branches["main"] == {".gitattributes": b"lfs", **expected_files(bundle)}
    uploads = [path for path in hub.received if path.startswith("/upload/")]
    assert len(uploads) == len(hub.objects) - sent  # what had arrived is not sent again


def test_bytes_that_arrive_changed_are_found(hub: Hub, bundle: Path) -> None:
    hub.spoils = "onnx/model.onnx"
    done = push(hub.url, bundle)
    assert done.returncode == 2
    assert "me/model does not hold onnx/model.onnx as it was sent" in done.stderr
    assert "Pushed" not in done.stdout


def test_a_refusal_is_one_sentence(hub: Hub, bundle: Path) -> None:
    for arguments, token, sentence in (
        ((), "hf_other", "The push to me/model did not finish ("),
        (("--private",), TOKEN, "me/model is there already, and public"),
    ):
        hub.private = False
        done = push(hub.url, bundle, *arguments, token=token)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert hub.commits == 0
    done = push("http://127.0.0.1:9", bundle)
    assert done.returncode == 2
    assert "did not finish (" in done.stderr


def test_without_a_token(bundle: Path) -> None:
    done = push("http://127.0.0.1:9", bundle, token="")
    assert done.returncode == 2
    assert done.stderr == "Error: The hub needs a token to write: log in with hf auth login, or set HF_TOKEN.\n"


def test_what_is_not_pushed(cli: Cli, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.read(bundle)
    gate = GateResult(name="min_speedup", comparison="≥", limit=2, value=1, held=False, detail="")
    failed = manifest.model_copy(update={"verdict": "failed", "gates": (gate,)})
    (bundle / "manifest.json").write_text(failed.to_json())
    assert cli("push", bundle, "me/model", "--dry-run") == 3
    assert "is not pushed: its verdict is " in capsys.readouterr().err
    assert cli("push", bundle, "no/such/name", "--dry-run") == 2
    assert "'no/such/name' cannot name a repository on the hub: " in capsys.readouterr().err
    (bundle / "plan.json").write_text("{}")
    assert cli("push", bundle, "me/model", "--dry-run") == 2
    assert "! changed plan.json" in capsys.readouterr().err
