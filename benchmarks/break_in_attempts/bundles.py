"""Bundles, signatures and records that are not what they say."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from break_in_attempts.checks import clean, no_crash, refused, snapshot, unchanged
from break_in_attempts.scene import Kind, Scene, each, expect

FILES = (
    "checkpoint/config.json", "checkpoint/model.safetensors", "checkpoint/tokenizer.json",
    "checkpoint/modeling_kprune.py",
    "onnx/model.onnx", "onnx/graphs.json", "parity.json", "plan.json", "report.html", "fidelity.json", "latency.json",
)  # fmt: skip
READERS = ("verify", "push", "sign", "inspect", "diff", "validate", "triton")


def _reader(scene: Scene, command: str, bundle: Path) -> tuple[object, ...]:
    commands: dict[str, tuple[object, ...]] = {
        "verify": ("verify", bundle),
        "push": ("push", bundle, "me/model", "--dry-run"),
        "sign": ("sign", bundle, "--private-key", scene.made.key),
        "inspect": ("inspect", bundle),
        "diff": ("diff", scene.made.bundle, bundle),
        "validate": ("validate", bundle, "--shapes", "1x4", "--timing-seconds", 0.02, "--threads", 1),
        "triton": ("triton", bundle, "--backend", "python", "-o", scene.out),
    }
    return commands[command]


def _damage(path: Path, how: str, elsewhere: Path) -> None:
    match how:
        case "changed":
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        case "cut":
            path.write_bytes(path.read_bytes()[:-1])
        case "removed":
            path.unlink()
        case "a link":
            shutil.move(path, elsewhere)
            path.symlink_to(elsewhere)
        case "a pipe":
            path.unlink()
            os.mkfifo(path)
        case "a folder":
            path.unlink()
            path.mkdir()
        case "a device":
            path.unlink()
            path.symlink_to("/dev/zero")


def damaged(scene: Scene, name: str, how: str) -> None:
    """A file of a bundle is not the one that was listed: found by `verify`, and nothing is pushed, signed or served."""
    bundle = scene.copy("bundle")
    if not (bundle / name).exists():
        raise FileNotFoundError(name)
    _damage(bundle / name, how, scene.folder / "elsewhere")
    ended = scene.run("verify", bundle)
    refused(ended, codes=(2,)) if ended.errors else clean(ended, (2,))
    expect(name in ended.out + ended.err, "verify does not name the file")
    for command in ("push", "sign", "validate", "triton"):
        scene.refuse(_reader(scene, command, bundle))


def extra(scene: Scene, name: str, kind: str) -> None:
    """Something in a bundle that its manifest does not list, hidden or not."""
    bundle = scene.copy("bundle")
    place = bundle / name
    place.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "file":
            place.write_text("import os")
        case "link":
            place.symlink_to(scene.made.key)
        case "pipe":
            os.mkfifo(place)
        case "folder link":
            place.symlink_to(scene.made.folder)
    ended = scene.run("verify", bundle)
    clean(ended, (2,))
    expect(Path(name).parts[0] in ended.out + ended.err, "verify does not name it")
    for command in ("push", "sign"):
        scene.refuse(_reader(scene, command, bundle))


def _write(bundle: Path, **changes: Any) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps({k: v for k, v in (json.loads(path.read_text()) | changes).items() if v is not ...}))


_GATE = {"name": "min_speedup", "comparison": "≥", "limit": 2.0, "value": 1.0, "passed": False, "detail": ""}
_CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "passed beside a broken gate": {"verdict": "passed", "gates": [_GATE]},
    "passed without gates": {"verdict": "passed", "gates": []},
    "a gate that says it passed": {"verdict": "passed", "gates": [{**_GATE, "passed": True}]},
    "a limit of nan": {"verdict": "passed", "gates": [{**_GATE, "passed": True, "limit": float("nan")}]},
    "a value of inf": {"verdict": "passed", "gates": [{**_GATE, "passed": True, "value": float("inf")}]},
    "a comparison of its own": {"verdict": "passed", "gates": [{**_GATE, "passed": True, "comparison": "<"}]},
    "a verdict of its own": {"verdict": "excellent"},
    "a gate of its own": {"verdict": "passed", "gates": [{**_GATE, "name": "max_beauty", "passed": True}]},
    "a reduction of nan": {"flops_reduction": float("nan")},
    "a share beyond one": {"held_out": {"source": "x", "texts": 1, "sha256": "0", "unknown_share": 7}},
    "gates of another type": {"gates": "none"},
    "no verdict key": {"verdict": ...},
    "an unknown key": {"trusted": True},
    "a variant outside": {"variants": ["../x"]},
}


def contradicts_itself(scene: Scene, name: str) -> None:
    """A manifest that contradicts itself is refused by every command that reads it."""
    bundle = scene.copy("bundle")
    _write(bundle, **_CONTRADICTIONS[name])
    for command in ("push", "sign") if name == "a variant outside" else READERS:
        if name == "a variant outside":
            no_crash(scene.run(*_reader(scene, command, bundle)))
        else:
            scene.refuse(_reader(scene, command, bundle))


def failed_gates(scene: Scene, verdict: str) -> None:
    """A bundle whose gates failed, or were not decided, is not released."""
    bundle = scene.copy("bundle")
    ended = scene.run(
        *_reader(scene, "validate", bundle), "--min-speedup", 1000, "-o", scene.folder / "again"
    )  # fmt: skip
    clean(ended, (3, 6))
    gates = [_GATE if verdict == "failed" else {**_GATE, "value": None, "passed": False, "inconclusive": True}]
    _write(bundle, verdict=verdict, gates=gates)
    scene.refuse(_reader(scene, "push", bundle), codes=(2, 3, 6))


def permits(scene: Scene, key: str, value: object) -> None:
    """A manifest that permits what only a user may: pickles are still refused."""
    import torch
    from safetensors.torch import load_file

    bundle, model = scene.copy("bundle"), scene.copy("classifier", "model")
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    torch.save(weights, model / "pytorch_model.bin")
    recipe = json.loads((bundle / "manifest.json").read_text())["recipe"]
    _write(bundle, recipe={**recipe, key: value})
    command = (*_reader(scene, "validate", bundle), "--dense", model, *scene.texts)
    scene.refuse(command, "pickle|recipe|manifest|allow")


def forged(scene: Scene, change: str) -> None:
    """A signed bundle that was changed, with its manifest or not, does not verify."""
    from kprune_export.bundle.manifest import Manifest, record_files

    bundle = scene.copy("bundle")
    clean(scene.run(*_reader(scene, "sign", bundle)))
    public = scene.made.folder / "public.pem"
    command = ("verify", bundle, "--public-key", public)
    clean(scene.run(*command))
    match change:
        case "a file and its record":
            (bundle / "plan.json").write_text("{}")
            manifest = Manifest.of_bundle(bundle)
            [new] = record_files(bundle, ["plan.json"], reproducible=True)
            files = tuple(new if file.path == "plan.json" else file for file in manifest.files)
            (bundle / "manifest.json").write_text(manifest.model_copy(update={"files": files}).to_json())
        case "the manifest alone":
            _write(bundle, labels=["positive", "negative"])
        case "a file more":
            (bundle / "extra.py").write_text("")
        case "a hidden file more":
            (bundle / ".git").mkdir()
            (bundle / ".git" / "config").write_text("")
        case "a work folder":
            (bundle / ".kprune-export").mkdir()
            (bundle / ".kprune-export" / "x").write_text("")
        case "the signature cut":
            path = bundle / "signature.sig"
            path.write_bytes(path.read_bytes()[:-20])
        case "the signature removed":
            (bundle / "signature.sig").unlink()
        case "the signature a link":
            _damage(bundle / "signature.sig", "a link", scene.folder / "elsewhere")
        case "the signature a pipe":
            _damage(bundle / "signature.sig", "a pipe", scene.folder / "elsewhere")
        case "the manifest a link":
            _damage(bundle / "manifest.json", "a link", scene.folder / "elsewhere")
        case "the signature nested deeply":
            (bundle / "signature.sig").write_text("[" * 100_000)
    clean(scene.run(*command), (2,))


def keys(scene: Scene, what: str) -> None:
    """Keys that are none, are the bundle's own, or are in it; bundle and key stay as they are."""
    bundle, key = scene.copy("bundle"), scene.folder / "key.pem"
    match what:
        case "empty":
            key.write_text("")
        case "not there":
            pass
        case "public":
            shutil.copyfile(scene.made.folder / "public.pem", key)
        case "a folder":
            key.mkdir()
        case "of noise":
            key.write_bytes(os.urandom(500))
        case "in the bundle":
            key = bundle / "key.pem"
            shutil.copyfile(scene.made.key, key)
        case "a file of the bundle":
            key = bundle / "plan.json"
    before = snapshot(bundle)
    refused(scene.run("sign", bundle, "--private-key", key, limit=60))
    unchanged(before, bundle)


_REPORTS = {
    "not UTF-8": b"\xff",
    "empty": b"",
    "of nobody": b"{}",
    "a list": b"[]",
    "deep": b"[" * 50_000,
    "null": b"null",
}


def damaged_report(scene: Scene, name: str, content: str) -> None:
    """A report in a bundle that its manifest lists as it is, and that is none."""
    from kprune_export.bundle.manifest import Manifest, record_files

    bundle = scene.copy("bundle")
    (bundle / name).write_bytes(_REPORTS[content])
    manifest = Manifest.of_bundle(bundle)
    [new] = record_files(bundle, [name], reproducible=True)
    files = tuple(new if file.path == name else file for file in manifest.files)
    (bundle / "manifest.json").write_text(manifest.model_copy(update={"files": files}).to_json())
    for command in ("diff", "triton", "inspect", "push"):
        no_crash(scene.run(*_reader(scene, command, bundle)))


KINDS = (
    Kind(
        "a file of a bundle that is another one",
        "named by verify; not pushed, signed, validated or served",
        each(
            damaged,
            {f"{name} {how}": (name, how) for name in FILES for how in ("changed", "a link")}
            | {
                f"onnx/model.onnx {how}": ("onnx/model.onnx", how)
                for how in ("cut", "removed", "a pipe", "a folder", "a device")
            },
        ),
    ),
    Kind(
        "something that a bundle does not list",
        "named by verify; not pushed, not signed",
        each(
            extra,
            {
                f"{name} as a {kind}": (name, kind)
                for name in ("extra.py", "onnx/x", ".git/config", ".kprune-export/x", "checkpoint/vocab.json")
                for kind in ("file", "link", "pipe")
            }
            | {"a linked folder": ("models", "folder link")},
        ),
    ),
    Kind(
        "a manifest that contradicts itself",
        "refused by all that read it",
        each(contradicts_itself, tuple(_CONTRADICTIONS)),
    ),
    Kind("a bundle that did not pass", "not pushed", each(failed_gates, ("failed", "inconclusive"))),
    Kind(
        "a manifest that permits pickles",
        "only the user's flag does",
        each(
            permits,
            {
                "allow_pickle": ("allow_pickle", True),
                "as a text": ("allow_pickle", "yes"),
                "as a number": ("allow_pickle", 1),
            },
        ),
    ),
    Kind(
        "a signed bundle that was changed",
        "the signature does not hold",
        each(
            forged,
            (
                "a file and its record",
                "the manifest alone",
                "a file more",
                "a hidden file more",
                "a work folder",
                "the signature cut",
                "the signature removed",
                "the signature a link",
                "the signature a pipe",
                "the manifest a link",
                "the signature nested deeply",
            ),
        ),
    ),
    Kind(
        "keys that cannot be used",
        "refused, bundle and key left",
        each(
            keys,
            (
                "empty",
                "not there",
                "public",
                "a folder",
                "of noise",
                "in the bundle",
                "a file of the bundle",
            ),
        ),
    ),
    Kind(
        "a report that is none",
        "one sentence",
        each(
            damaged_report,
            {
                f"{name} {content}": (name, content)
                for name in ("parity.json", "onnx/graphs.json", "fidelity.json", "latency.json")
                for content in _REPORTS
            },
        ),
    ),
)
