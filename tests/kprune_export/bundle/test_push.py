"""Pushing bundles: huggingface_hub's own client, in a process of its own, against a small server on loopback."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_hub import TOKEN, Hub, local_hub

from kprune_export.bundle.manifest import Manifest, record_files
from kprune_export.bundle.verdict import GateResult
from kprune_export.pipeline.run import Outcome

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


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Push = Callable[..., Done]


@pytest.fixture
def push_here(hub: Hub, cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Push:
    """Return what `push` does, in this process, which is quicker."""
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def run(bundle: Path, *arguments: str) -> Done:
        code = cli("push", bundle, "me/model", *arguments)
        return Done(code, *capsys.readouterr())

    return run


def expected_files(bundle: Path) -> dict[str, bytes]:
    paths = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.is_file()}
    return {name.removeprefix("checkpoint/"): path.read_bytes() for name, path in paths.items()}


def test_a_dry_run_lists_everything_and_sends_nothing(hub: Hub, bundle: Path, push_here: Push) -> None:
    done = push_here(bundle, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    targets = {file["path"]: file["target"] for file in answer["files"]}
    assert targets["checkpoint/config.json"] == "config.json"
    assert targets["checkpoint/README.md"] == "README.md"
    assert targets["onnx/model.onnx"] == "onnx/model.onnx"
    assert targets["manifest.json"] == "manifest.json"
    assert set(targets.values()) == set(expected_files(bundle)) == set(answer["added"])
    assert answer["size_bytes"] == sum(map(len, expected_files(bundle).values()))
    assert (answer["creates"], answer["replaced"], answer["overwritten"], answer["removed"]) == (True, [], [], [])
    assert "commit" not in answer
    done = push_here(bundle, "--dry-run")
    assert "Nothing was sent" in done.stdout
    assert "The repository is not there, or cannot be seen with this token, and would be made." in done.stdout
    assert not hub.exists
    asked = {path.partition("?")[0] for path in hub.received if "me/model" in path}
    assert asked == {"/api/models/me/model/revision/main"}


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


FOREIGN = {"README.md": b"of its owner", "model.safetensors": b"of its owner", "onnx/mine.onnx": b"1"}


@pytest.mark.parametrize(
    "files",
    [
        FOREIGN,
        {**FOREIGN, "manifest.json": b'{"format": "of something else"}'},
        {**FOREIGN, "manifest.json": b"\xff"},
        {"docs/notes.md": b"no file of a bundle's name"},
    ],
)
@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--revision", "v2")])
def test_a_repository_of_something_else_is_refused(
    files: dict[str, bytes], options: tuple[str, ...], hub: Hub, bundle: Path, push_here: Push
) -> None:
    hub.hold(files)
    before = dict(hub.branches["main"])
    done = push_here(bundle, *options)
    assert done.returncode == 2
    assert "me/model holds files and no manifest.json of this program (" in done.stderr
    assert all(name in done.stderr for name in files)
    assert "pass --overwrite" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert hub.branches == {"main": before}
    assert (hub.commits, hub.objects) == (0, {})


def test_overwriting_is_asked_for_by_its_name_and_removes_nothing(hub: Hub, bundle: Path, push_here: Push) -> None:
    hub.hold({**FOREIGN, "signature.sig": b"2"})
    done = push_here(bundle, "--overwrite", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["overwritten"], answer["replaced"], answer["removed"]) == (
        ["README.md", "model.safetensors"],
        [],
        [],
    )
    assert hub.commits == 0
    done = push_here(bundle, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "overwritten" in done.stdout
    left = {".gitattributes": b"lfs", "onnx/mine.onnx": b"1", "signature.sig": b"2"}
    assert hub.branches["main"] == {**left, **expected_files(bundle)}


def test_of_an_earlier_push_only_what_its_manifest_lists_is_replaced_or_removed(
    hub: Hub, bundle: Path, push_here: Push, tmp_path: Path
) -> None:
    first = Path(shutil.copytree(bundle, tmp_path / "first"))
    manifest = Manifest.of_bundle(first)
    (first / "onnx" / "old.onnx").write_bytes(b"old")
    [old] = record_files(first, ["onnx/old.onnx"], reproducible=True)
    (first / "manifest.json").write_text(manifest.model_copy(update={"files": (*manifest.files, old)}).to_json())
    assert push_here(first, "--private").returncode == 0
    hub.branches["main"] |= {"onnx/mine.onnx": b"1", "notes.md": b"mine"}

    done = push_here(bundle, "--dry-run", "--json")
    answer = json.loads(done.stdout)
    assert (answer["creates"], answer["overwritten"], answer["removed"]) == (False, [], ["onnx/old.onnx"])
    assert set(answer["replaced"]) == set(expected_files(bundle))
    assert "Would be removed from the repository, not being of this bundle: onnx/old.onnx" in (
        push_here(bundle, "--dry-run").stdout
    )
    done = push_here(bundle)
    assert done.returncode == 0, done.stderr
    mine = {".gitattributes": b"lfs", "onnx/mine.onnx": b"1", "notes.md": b"mine"}
    assert hub.branches["main"] == {**mine, **expected_files(bundle)}
    assert "Removed from the repository, not being of this bundle: onnx/old.onnx" in done.stdout

    added = Path(shutil.copytree(bundle, tmp_path / "added"))
    (added / "onnx" / "mine.onnx").write_bytes(b"of the bundle")
    [new] = record_files(added, ["onnx/mine.onnx"], reproducible=True)
    (added / "manifest.json").write_text(manifest.model_copy(update={"files": (*manifest.files, new)}).to_json())
    done = push_here(added)
    assert done.returncode == 2
    assert "me/model holds 'onnx/mine.onnx', which no earlier push put there" in done.stderr
    assert hub.branches["main"]["onnx/mine.onnx"] == b"1"


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("checkpoint/config.json", "/revision/"),  # after the bundle was verified, before its files are read
        ("onnx/model.onnx", "/revision/"),
        ("manifest.json", "/revision/"),
        ("checkpoint/model.safetensors", "/revision/"),
        ("checkpoint/config.json", "/preupload/"),  # after its files were read
        ("manifest.json", "/preupload/"),
    ],
)
def test_a_file_that_is_swapped_after_the_bundle_was_verified_does_not_arrive(
    name: str, moment: str, hub: Hub, bundle: Path, push_here: Push
) -> None:
    verified = expected_files(bundle)

    def swap(path: str) -> None:
        if moment in path:
            (bundle / name).write_bytes(b"swapped")

    hub.watch = swap
    done = push_here(bundle)
    if moment == "/revision/":
        assert done.returncode == 2
        assert f"{bundle / name} has changed since the bundle was verified: nothing was pushed." in done.stderr
        assert hub.commits == 0
    else:  # what was read when it was verified is what is sent
        assert done.returncode == 0, done.stderr
        assert hub.branches["main"] == {".gitattributes": b"lfs", **verified}


def test_a_large_file_that_is_swapped_while_it_is_sent_is_not_committed(
    hub: Hub, bundle: Path, push_here: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kprune_export.bundle import push as module

    monkeypatch.setattr(module, "_IN_MEMORY", 1000)  # so that a tiny model's files are large
    swapped = bundle / "onnx" / "model.onnx"

    def swap(path: str) -> None:
        if "/objects/batch" in path:
            swapped.write_bytes(b"swapped")

    hub.watch = swap
    done = push_here(bundle)
    assert done.returncode == 2
    assert f"{swapped} has changed since the bundle was verified: nothing was pushed." in done.stderr
    assert hub.commits == 0


def test_a_branch_of_its_own(hub: Hub, bundle: Path, push_here: Push) -> None:
    assert push_here(bundle, "--revision", "v2", "--dry-run").returncode == 0
    assert set(hub.branches) == {"main"}
    done = push_here(bundle, "--revision", "v2")
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


def test_a_dry_run_refuses_what_a_push_refuses(hub: Hub, bundle: Path, push_here: Push) -> None:
    hub.hold({})
    done = push_here(bundle, "--dry-run", "--private")
    assert done.returncode == 2
    assert "me/model is there already, and public" in done.stderr


def test_bytes_that_arrive_changed_are_found(hub: Hub, bundle: Path, push_here: Push) -> None:
    hub.spoils = "onnx/model.onnx"
    done = push_here(bundle)
    assert done.returncode == 2
    assert "me/model does not hold onnx/model.onnx as the manifest lists it" in done.stderr
    assert "Pushed" not in done.stdout


def test_a_refusal_is_one_sentence(hub: Hub, bundle: Path) -> None:
    for arguments, token, sentence in (
        ((), "hf_other", "The push to me/model did not finish ("),
        (("--private",), TOKEN, "me/model is there already, and public"),
    ):
        hub.hold({})
        done = push(hub.url, bundle, *arguments, token=token)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert hub.commits == 0
    done = push("http://127.0.0.1:9", bundle)
    assert done.returncode == 2
    assert "did not finish (" in done.stderr
    done = push("http://127.0.0.1:9", bundle, "--dry-run")
    assert done.returncode == 2
    assert "Error: me/model cannot be looked at (" in done.stderr


def test_without_a_token(bundle: Path) -> None:
    done = push("http://127.0.0.1:9", bundle, token="")
    assert done.returncode == 2
    assert done.stderr == "Error: The hub needs a token to write: log in with hf auth login, or set HF_TOKEN.\n"


def test_what_is_not_pushed(cli: Cli, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.of_bundle(bundle)
    gate = GateResult(name="min_speedup", comparison="≥", limit=2, value=1, passed=False, detail="")
    failed = manifest.model_copy(update={"verdict": "failed", "gates": (gate,)})
    (bundle / "manifest.json").write_text(failed.to_json())
    assert cli("push", bundle, "me/model", "--dry-run") == 3
    assert "is not pushed: its verdict is " in capsys.readouterr().err
    assert cli("push", bundle, "no/such/name", "--dry-run") == 2
    assert "'no/such/name' cannot name a repository on the hub: " in capsys.readouterr().err
    (bundle / "plan.json").write_text("{}")
    assert cli("push", bundle, "me/model", "--dry-run") == 2
    assert "! changed plan.json" in capsys.readouterr().err
