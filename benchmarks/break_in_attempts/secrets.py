"""What must not leave the machine with a bundle: other files, local paths, names, permissions; and what is sent."""

import json
import os
import subprocess
import sys
from pathlib import Path

from break_in_attempts.checks import Broken, clean, files_without, permissions, refused
from break_in_attempts.scene import QUICK, Kind, Scene, each, expect

SECRET = "a-private-key-of-the-user"
_PRUNING = (*QUICK[:4], *QUICK[8:])


def linked_companion(scene: Scene, name: str, how: str) -> None:
    """A file of the checkpoint that leads to a file of the user's elsewhere, by a link or through a linked folder."""
    folder, secret = scene.copy("embedder", "checkpoint"), scene.folder / "secret"
    place = folder / name
    if place.exists():
        place.rename(secret)
    else:
        secret.write_text(json.dumps({"token": SECRET}))
    match how:
        case "link":
            place.symlink_to(secret)
        case "relative link":
            place.symlink_to(os.path.relpath(secret, place.parent))
        case "link of a link":
            (scene.folder / "between").symlink_to(secret)
            place.symlink_to(scene.folder / "between")
    scene.refuse(("prune", folder, "-o", scene.out, *scene.texts, *_PRUNING), "outside|link")


def not_read(scene: Scene, name: str) -> None:
    """A file in the checkpoint that nobody reads must not be shipped, nor what it holds."""
    folder = scene.copy("classifier", "checkpoint")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({"token": SECRET}))
    ended = scene.run("prune", folder, "-o", scene.out, *scene.texts, *_PRUNING)
    refused(ended, codes=(0, 2))
    if ended.code == 0:
        files_without(scene.out, SECRET)


def unknown_keys(scene: Scene, name: str) -> None:
    """A key of a setting that no class knows must not be shipped."""
    folder = scene.copy("embedder", "checkpoint")
    path = folder / name
    if name == "modules.json":
        modules = json.loads(path.read_text())
        modules[0]["note"] = SECRET
        path.write_text(json.dumps(modules))
    else:
        if not path.exists():
            path.write_text("{}")
        scene.edit(path, note=SECRET, deep={"a": [SECRET]})
    ended = scene.run("prune", folder, "-o", scene.out, *scene.texts, *_PRUNING)
    refused(ended, codes=(0, 2))
    if ended.code == 0:
        files_without(scene.out, SECRET)


def local_paths(scene: Scene, command: str) -> None:
    """No path of this machine, nor its name, in what is shipped."""
    commands: dict[str, tuple[object, ...]] = {
        "prune": ("prune", scene.made.classifier, "-o", scene.out, *scene.texts, *_PRUNING),
        "prune-and-build": (
            "prune-and-build", scene.made.classifier, "-o", scene.out, *scene.texts, *QUICK, "--triton",
            "--triton-backend", "python", "--evaluation", _copied(scene),
        ),
        "export": ("export", scene.made.classifier, "-o", scene.out, "--threads", 1),
        "validate": ("validate", scene.made.bundle, "--shapes", "1x4", "--threads", 1, "-o", scene.out),
        "triton": ("triton", scene.made.bundle, "--backend", "python", "-o", scene.out),
        "a relative path": (
            "prune", os.path.relpath(scene.made.classifier, scene.folder), "-o", scene.out, *scene.texts, *_PRUNING,
        ),
    }  # fmt: skip
    clean(scene.run(*commands[command]))
    files_without(scene.out, str(scene.made.folder), str(scene.folder), str(Path.home()), os.uname().nodename + '"')


def _copied(scene: Scene) -> Path:
    path = scene.folder / "evaluation.txt"
    path.write_text("\n".join(f"{x} the film" for x in scene.made.texts.read_text().splitlines()[:60]))
    return path


def umask(scene: Scene, mask: int, command: str) -> None:
    """New files have the permissions that the umask gives, whatever made them."""
    commands: dict[str, tuple[object, ...]] = {
        "prune-and-build": ("prune-and-build", scene.made.classifier, "-o", scene.out, *scene.texts, *QUICK),
        "export": ("export", scene.made.classifier, "-o", scene.out, "--threads", 1),
        "triton": ("triton", scene.made.bundle, "--backend", "python", "-o", scene.out),
        "profile-target": (
            "profile-target", scene.made.classifier, "-o", scene.out / "t.json", "--shapes", "1x8", "--threads", 1
        ),
    }  # fmt: skip
    if command == "profile-target":
        scene.out.mkdir()

    def prepare() -> None:
        os.umask(mask)

    clean(scene.run(*commands[command], prepare=prepare))
    permissions(scene.out, mask)


def swapped_before_a_push(scene: Scene, name: str, moment: str) -> None:
    """A file is swapped between verification and upload: it does not arrive."""
    from local_hub import local_hub

    bundle = scene.copy("bundle")
    with local_hub() as hub:

        def swap(path: str) -> None:
            if moment in path:
                (bundle / name).write_bytes(b"swapped")

        hub.watch = swap
        ended = scene.run("push", bundle, "me/model", real=True, env=_hub(hub.url))
        refused(ended, codes=(0, 2))
        if any(b"swapped" in content for content in hub.branches["main"].values()):
            raise Broken("what was swapped arrived")


def _hub(url: str) -> dict[str, str]:
    return {"HF_ENDPOINT": url, "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}


def foreign_repository(scene: Scene, files: tuple[str, ...], options: tuple[str, ...]) -> None:
    """A repository that no push of ours made is not written to, and a dry run says so."""
    from local_hub import local_hub

    with local_hub() as hub:
        hub.hold(dict.fromkeys(files, b"of its owner"))
        before = dict(hub.branches["main"])
        command = ("push", scene.made.bundle, "me/model", *options)
        ended = scene.run(*command, real=True, env=_hub(hub.url))
        refused(ended, files[0])
        expect(hub.branches["main"] == before and hub.commits == 0, "the repository was changed")
        expect(not hub.objects, "something was sent")


def spoiled_on_arrival(scene: Scene, name: str) -> None:
    """What arrives is compared with the manifest."""
    from local_hub import local_hub

    with local_hub() as hub:
        hub.spoils = name
        ended = scene.run("push", scene.made.bundle, "me/model", real=True, env=_hub(hub.url))
        refused(ended, "does not hold")


def telemetry(scene: Scene, command: str) -> None:
    """Nothing is asked of the network; the home folder gets where inputs are, and matplotlib's list of fonts."""
    home = scene.folder / "home"
    home.mkdir()
    program = scene.folder / "network"
    program.mkdir()
    (program / "sitecustomize.py").write_text(
        "import sys\n"
        "def watch(event, arguments):\n"
        "    asks = event in ('socket.connect', 'socket.getaddrinfo', 'socket.sendto')\n"
        "    if asks and 'AF_UNIX' not in str(arguments):\n"
        f"        open({str(scene.mark)!r}, 'a').write(f'{{event}} {{arguments}}\\n')\n"
        "sys.addaudithook(watch)\n"
    )
    commands: dict[str, tuple[object, ...]] = {
        "prune-and-build": ("prune-and-build", scene.made.classifier, "-o", scene.out, *scene.texts, *QUICK),
        "prune-and-build --isolate": (
            "prune-and-build", scene.made.classifier, "-o", scene.out, *scene.texts, *QUICK, "--isolate"
        ),
        "doctor": ("doctor",),
    }  # fmt: skip
    environment = {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "PYTHONPATH": str(program)}
    environment |= {"HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "0"}
    clean(scene.run(*commands[command], real=True, env=environment))
    if scene.mark.exists():
        raise Broken(f"the network was asked: {scene.mark.read_text()[:200]}")
    left = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    others = {name for name in left if not name.startswith(("state/kprune-export/", ".cache/matplotlib/"))}
    expect(not others, f"written to the home folder: {sorted(others)[:3]}")


def shipped_model_opens(scene: Scene, source: str) -> None:
    """What is shipped opens in transformers, with no other code than our one file."""
    shipped = scene.made.bundle / "checkpoint"
    if source == "a rebuilt one":
        clean(scene.run("prune", scene.made.classifier, "-o", scene.out, *scene.texts, *_PRUNING))
        shipped = scene.out / "checkpoint"
    code = sorted(path.name for path in shipped.rglob("*.py"))
    expect(code == ["modeling_kprune.py"], f"code that is shipped: {code}")
    program = (
        "import sys, transformers\n"
        "transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, shipped], capture_output=True, cwd="/", check=False)
    expect(done.returncode == 0, done.stderr.decode()[-200:])


_COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "vocab.json",
    "README.md",
    "1_Pooling/config.json",
    "modules.json",
)
KINDS = (
    Kind(
        "a companion that lies elsewhere",
        "refused",
        each(
            linked_companion,
            {f"{x} by a {how}": (x, how) for x in _COMPANIONS for how in ("link", "relative link", "link of a link")},
        ),
    ),
    Kind(
        "a file that nobody reads",
        "not shipped",
        each(
            not_read,
            (".env", "id_rsa", "vocab.json", "merges.txt", "notes.txt", "training_args.json", "onnx/secret.json"),
        ),
    ),
    Kind(
        "keys that nobody knows",
        "not shipped",
        each(
            unknown_keys,
            (
                "config.json",
                "tokenizer_config.json",
                "1_Pooling/config.json",
                "sentence_bert_config.json",
                "modules.json",
                "special_tokens_map.json",
            ),
        ),
    ),
    Kind(
        "local paths in what is shipped",
        "names and hashes alone",
        each(local_paths, ("prune", "prune-and-build", "export", "validate", "triton", "a relative path")),
    ),
    Kind(
        "permissions",
        "as the umask says",
        each(
            umask,
            {
                f"{command} under {mask:03o}": (mask, command)
                for command, mask in (
                    ("prune-and-build", 0o077),
                    ("prune-and-build", 0o027),
                    ("export", 0o077),
                    ("triton", 0o077),
                    ("profile-target", 0o077),
                )
            },
        ),
    ),
    Kind(
        "a file swapped before it is pushed",
        "does not arrive",
        each(
            swapped_before_a_push,
            {
                f"{name} at {moment.strip('/')}": (name, moment)
                for name in ("checkpoint/config.json", "onnx/model.onnx", "manifest.json")
                for moment in ("/revision/", "/preupload/")
            },
        ),
    ),
    Kind(
        "a push to a repository of something else",
        "refused, nothing sent",
        each(
            foreign_repository,
            {
                f"{files[0]} {' '.join(options)}": (files, options)
                for files in (("README.md", "model.safetensors"), ("docs/notes.md",), ("manifest.json",))
                for options in ((), ("--dry-run",))
            },
        ),
    ),
    Kind("a file spoiled on its way", "noticed", each(spoiled_on_arrival, ("onnx/model.onnx", "config.json"))),
    Kind(
        "telemetry",
        "none, and nothing in the home folder",
        each(telemetry, ("prune-and-build", "prune-and-build --isolate", "doctor")),
    ),
    Kind("the code that is shipped", "one file of ours", each(shipped_model_opens, ("the bundle", "a rebuilt one"))),
)
