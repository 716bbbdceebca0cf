"""Signing bundles with real keys, and what a changed bundle, signature or key comes to."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from output_folders import run_folder, tree

from kprune_export.bundle.layout import SIGNATURE, WORK
from kprune_export.bundle.manifest import Manifest, record_files
from kprune_export.bundle.signature import sign_bundle, signature_problem
from kprune_export.bundle.workspace import Workspace
from kprune_export.errors import KeyFileError, OutputFolderError, VerificationError
from kprune_export.pipeline.run import Outcome, prune_and_build
from kprune_export.recipe.recipe import Recipe

Cli = Callable[..., int]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def write_keys(folder: Path, key: PrivateKey) -> tuple[Path, Path]:
    private, public = folder / "private.pem", folder / "public.pem"
    folder.mkdir(exist_ok=True)
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path / "keys", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def signed(built: Outcome, keys: tuple[Path, Path], tmp_path: Path) -> Path:
    bundle = Path(shutil.copytree(built.output, tmp_path / "bundle"))
    assert sign_bundle(bundle, keys[0]) == bundle / SIGNATURE
    return bundle


def test_a_signed_bundle_verifies(
    cli: Cli, signed: Path, keys: tuple[Path, Path], built: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {x.relative_to(built.output) for x in built.output.rglob("*")}
    assert {x.relative_to(signed) for x in signed.rglob("*")} - before == {Path(SIGNATURE)}
    assert cli("verify", signed, "--public-key", keys[1]) == 0
    assert "The signature holds" in capsys.readouterr().out
    assert cli("verify", signed) == 0  # a signature is no extra file
    assert cli("sign", signed, "--private-key", keys[0]) == 0  # again
    capsys.readouterr()
    assert cli("verify", signed, "--public-key", keys[1], "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["intact"], answer["signature_problem"]) == (True, None)


def test_a_manifest_that_was_changed_with_its_files_is_found(signed: Path, keys: tuple[Path, Path], cli: Cli) -> None:
    (signed / "plan.json").write_text("{}")
    [record] = record_files(signed, ["plan.json"], reproducible=True)
    manifest = Manifest.of_bundle(signed)
    files = tuple(record if file.path == record.path else file for file in manifest.files)
    (signed / "manifest.json").write_text(manifest.model_copy(update={"files": files}).to_json())
    assert cli("verify", signed) == 0  # which is why there are signatures
    problem = signature_problem(signed, keys[1])
    assert problem is not None
    assert "'plan.json'" in problem
    assert "'manifest.json'" in problem


def test_all_differences_are_named_at_once(
    cli: Cli, signed: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (signed / "plan.json").write_text("{}")
    (signed / "parity.json").unlink()
    (signed / "new.txt").write_text("")
    assert cli("verify", signed, "--public-key", keys[1], "--json") == 2
    answer = json.loads(capsys.readouterr().out)
    assert (answer["missing"], answer["extra"], answer["changed"]) == (["parity.json"], ["new.txt"], ["plan.json"])
    assert answer["signature_problem"] == (
        f"Extra files found in model '{signed.name}': new.txt; Missing files in model '{signed.name}': parity.json; "
        "Hash mismatch for 'plan.json'"
    )


def test_other_keys_and_damaged_signatures_do_not_hold(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    _, other = write_keys(tmp_path / "other", ec.generate_private_key(ec.SECP384R1()))
    assert "Key mismatch" in (signature_problem(signed, other) or "")
    values = json.loads((signed / SIGNATURE).read_text())
    [entry] = values["dsseEnvelope"]["signatures"]
    entry["sig"] = "A" * len(entry["sig"])
    (signed / SIGNATURE).write_text(json.dumps(values))
    assert signature_problem(signed, keys[1]) == (
        "it was not made with the private key that belongs to this public key"
    )
    for damaged in ("", "{}", "[]", "\x00"):
        (signed / SIGNATURE).write_text(damaged)
        assert signature_problem(signed, keys[1])
    (signed / SIGNATURE).unlink()
    assert signature_problem(signed, keys[1]) == "there is no signature (signature.sig)"


@pytest.mark.parametrize("kind", ["work", "pipe", "link", "linked manifest"])
def test_what_cannot_be_signed_makes_a_signature_invalid(
    kind: str, cli: Cli, signed: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """With a key as without one."""
    place = signed / "onnx" / "extra"
    if kind == "work":
        (signed / WORK).mkdir()
        (signed / WORK / "anything").write_text("x")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "link":
        place.symlink_to(signed / "plan.json")
    else:
        (signed / "manifest.json").rename(tmp_path / "manifest.json")
        (signed / "manifest.json").symlink_to(tmp_path / "manifest.json")
    assert signature_problem(signed, keys[1])
    assert cli("verify", signed, "--public-key", keys[1]) == 2
    assert cli("verify", signed) == 2
    assert cli("sign", signed, "--private-key", keys[0]) == 2


def test_a_changed_bundle_is_not_signed(signed: Path, keys: tuple[Path, Path]) -> None:
    before = (signed / SIGNATURE).read_bytes()
    (signed / "plan.json").write_text("{}")
    with pytest.raises(VerificationError, match="! changed plan.json"):
        sign_bundle(signed, keys[0])
    assert (signed / SIGNATURE).read_bytes() == before


def test_keys_that_cannot_be_used(signed: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / "rsa", rsa.generate_private_key(65537, 2048))
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for key in (private, nonsense, tmp_path / "nowhere.pem", tmp_path):
        with pytest.raises(KeyFileError, match="as an unencrypted private key") as caught:
            sign_bundle(signed, key)
        assert "\n" not in str(caught.value)
    for key in (public, nonsense, tmp_path / "nowhere.pem"):
        with pytest.raises(KeyFileError, match="cannot be used as a public key"):
            signature_problem(signed, key)


def test_a_run_that_changes_nothing_keeps_the_signature_and_another_removes_it(
    signed: Path,
    keys: tuple[Path, Path],
    classifier: Path,
    texts_file: Path,
    make_recipe: Callable[..., Recipe],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = (signed / SIGNATURE).read_bytes()
    prune_and_build(make_recipe(classifier, signed, texts_file))
    assert (signed / SIGNATURE).read_bytes() == before
    assert signature_problem(signed, keys[1]) is None
    assert "signature" not in caplog.text
    prune_and_build(make_recipe(classifier, signed, texts_file, max_size_mib=900))
    assert not (signed / SIGNATURE).exists()
    assert f"The bundle in {signed} has changed, and its signature is removed: sign it again." in caplog.text


def test_what_is_no_signature_is_not_replaced_by_one(
    signed: Path, keys: tuple[Path, Path], classifier: Path, texts_file: Path, make_recipe: Callable[..., Recipe]
) -> None:
    (signed / SIGNATURE).unlink()
    for put in (lambda path: path.write_text("my own notes"), lambda path: path.symlink_to(signed / "plan.json")):
        put(signed / SIGNATURE)
        before = tree(signed)
        for change in (
            lambda: sign_bundle(signed, keys[0]),
            lambda: prune_and_build(make_recipe(classifier, signed, texts_file, max_size_mib=900)),
        ):
            with pytest.raises(OutputFolderError, match=SIGNATURE):
                change()
            assert tree(signed) == before
        (signed / SIGNATURE).unlink()


@pytest.mark.parametrize("name", [SIGNATURE, "key.pem", "checkpoint/key.pem"])
def test_a_key_in_the_bundle_is_refused_and_stays(
    name: str, signed: Path, keys: tuple[Path, Path], cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = signed / name
    key.unlink(missing_ok=True)
    shutil.copyfile(keys[0], key)
    (tmp_path / "link.pem").symlink_to(key)
    before = tree(signed)
    for given in (key, tmp_path / "link.pem"):
        assert cli("sign", signed, "--private-key", given) == 2
        assert f"The bundle {signed} contains the private key {given}" in capsys.readouterr().err
        assert tree(signed) == before


def test_a_bundle_that_a_run_has_not_finished_is_not_signed(signed: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(KeyboardInterrupt), Workspace.open(signed) as workspace:
        (workspace.scratch("one") / "step").write_text("finished")
        with pytest.raises(OutputFolderError, match="Another run is writing to"):
            sign_bundle(signed, keys[0])
        raise KeyboardInterrupt
    with pytest.raises(VerificationError, match="of a run that has not finished"):
        sign_bundle(signed, keys[0])
    assert (run_folder(signed) / "scratch" / "one" / "step").read_text() == "finished"
