"""What a user has in an output folder, and what is left of it."""

import json
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

from break_in_attempts.checks import Broken, clean, refused, snapshot, unchanged
from break_in_attempts.scene import QUICK, Attempt, Kind, Scene, each, expect

PRECIOUS = "precious, and no file of this program"
BUILDS = ("prune", "export", "prune-and-build")


def _build(scene: Scene, command: str, output: Path, model: Path | None = None) -> tuple[object, ...]:
    options = {"export": ("--threads", 1), "prune": QUICK[:4] + QUICK[8:], "prune-and-build": QUICK}[command]
    return (command, model or scene.made.classifier, "-o", output, *scene.texts, *options)


def _put(place: Path, kind: str, scene: Scene) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "file":
            place.write_text(PRECIOUS)
        case "link":
            place.symlink_to(scene.made.texts)
        case "dead link":
            place.symlink_to(scene.folder / "nowhere")
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
            (place / "mine").write_text(PRECIOUS)
        case "socket":
            here = Path.cwd()
            os.chdir(place.parent)  # whose path may be too long for one
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(place.name)
            os.chdir(here)


def names_of_ours(scene: Scene, command: str, name: str) -> None:
    """A folder whose files have the names that we write, and are not ours."""
    _put(scene.out / name, "file", scene)
    scene.refuse(_build(scene, command, scene.out), Path(name).parts[0], keeps=(scene.out,))


def in_a_bundle(scene: Scene, name: str, kind: str) -> None:
    """Something in a bundle that its manifest does not list."""
    bundle = scene.copy("bundle", "out")
    _put(bundle / name, kind, scene)
    scene.refuse(_build(scene, "prune-and-build", bundle), Path(name).parts[0], keeps=(bundle, scene.made.texts))


def in_a_repository(scene: Scene, name: str, kind: str) -> None:
    """Something in a Triton repository that its record does not list."""
    repository = scene.copy("repository", "out")
    _put(repository / name, kind, scene)
    command = ("triton", scene.made.bundle, "--backend", "python", "-o", repository)
    scene.refuse(command, Path(name).parts[0], keeps=(repository,))


def another_record(scene: Scene, change: str) -> None:
    """A manifest that is not valid owns nothing."""
    bundle = scene.copy("bundle", "out")
    path = bundle / "manifest.json"
    values = json.loads(path.read_text())
    match change:
        case "empty":
            path.write_text("")
        case "of another program":
            path.write_text('{"format": "of something else", "files": []}')
        case "of another version":
            path.write_text(json.dumps({**values, "version": 99}))
        case "without files":
            path.write_text(json.dumps({k: v for k, v in values.items() if k != "files"}))
        case "not UTF-8":
            path.write_bytes(b"\xff\xfe{")
        case "a link":
            shutil.move(path, scene.folder / "elsewhere.json")
            path.symlink_to(scene.folder / "elsewhere.json")
        case "removed":
            path.unlink()
    scene.refuse(_build(scene, "prune", bundle), "manifest.json|checkpoint", keeps=(bundle,))


def names_outside(scene: Scene, name: str) -> None:
    """A manifest that lists a file outside of its folder, which a rerun would remove."""
    bundle = scene.copy("bundle", "out")
    (scene.folder / "precious.txt").write_text(PRECIOUS)
    values = json.loads((bundle / "manifest.json").read_text())
    values["files"].append({**values["files"][0], "path": name})
    (bundle / "manifest.json").write_text(json.dumps(values))
    for command in (("verify", bundle), _build(scene, "export", bundle)):
        scene.refuse(command, keeps=(bundle, scene.folder / "precious.txt"))


def not_a_folder(scene: Scene, kind: str) -> None:
    """An output that is a file, a pipe, a device or a link that leads nowhere, or lies in one."""
    if kind == "a device":
        output = Path("/dev/null")
    elif kind == "below a file":
        _put(scene.folder / "file", "file", scene)
        output = scene.folder / "file" / "below"
    elif kind == "a long name":
        output = scene.folder / ("x" * 300)
    else:
        output = scene.folder / "place"
        _put(output, kind, scene)
    refused(scene.run(*_build(scene, "export", output)), "output|place")
    if kind == "file":
        expect(output.read_text() == PRECIOUS, "the file was changed")


def of_another_kind(scene: Scene, command: str, made: str) -> None:
    """An output folder of one kind of results given to a command that writes another kind."""
    output = scene.copy(made, "out")
    commands = {
        "triton": ("triton", scene.made.bundle, "--backend", "python", "-o", output),
        "sweep": ("sweep", scene.made.classifier, "-o", output, *scene.texts, "--speedups", "1.5"),
        "compare": ("compare", scene.made.classifier, "-o", output, *scene.texts),
        "profile-target": ("profile-target", scene.made.classifier, "-o", output),
        "prune": _build(scene, "prune", output),
        "export": _build(scene, "export", output),
    }
    scene.refuse(commands[command], keeps=(output,))


def links_into_elsewhere(scene: Scene, name: str) -> None:
    """A part of a bundle that is a link to a folder of the user's."""
    bundle, elsewhere = scene.copy("bundle", "out"), scene.folder / "elsewhere"
    shutil.move(bundle / name, elsewhere)
    (bundle / name).symlink_to(elsewhere)
    scene.refuse(_build(scene, "prune-and-build", bundle), "symbolic link", keeps=(bundle, elsewhere))


def killed(scene: Scene, command: str, share: float) -> None:
    """SIGKILL while results are replaced: the old or the new ones are whole, and the same command completes them."""
    made = {"triton": "repository", "export": "exported", "prune-and-build": "bundle"}[command]
    output = scene.copy(made, "out")
    repeated: tuple[object, ...] = (
        ("triton", scene.made.bundle, "--backend", "python", "--name", "other", "-o", output)
        if command == "triton"
        else (*_build(scene, command, output), "--seed", 3)
    )
    fresh = scene.folder / "fresh"
    begin = time.monotonic()
    clean(scene.run(*(fresh if x == output else x for x in repeated)))
    moment = (time.monotonic() - begin) * share

    def kill(pid: int) -> None:
        time.sleep(moment)
        os.kill(pid, signal.SIGKILL)

    scene.run(*repeated, during=kill)
    clean(scene.run(*repeated))
    left = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    wanted = {path.relative_to(fresh).as_posix() for path in fresh.rglob("*") if path.is_file()}
    expect(left == wanted, f"what is there after a rerun is not whole: {sorted(left ^ wanted)[:3]}")


def lock_removed(scene: Scene, what: str) -> None:
    """The lock of a run, or its work folder, is removed while it runs, and a second run begins."""
    ends = []

    def spoil(_pid: int) -> None:
        work = scene.out / ".kprune-export"
        end = time.monotonic() + 60
        while not (work / "lock").exists() and time.monotonic() < end:
            time.sleep(0.002)
        if what == "the lock":
            (work / "lock").unlink(missing_ok=True)
        elif what == "the work folder":
            shutil.rmtree(work, ignore_errors=True)
        second = scene.run(*_build(scene, "prune-and-build", scene.out), limit=100)
        ends.append(second)

    first = scene.run(*_build(scene, "prune-and-build", scene.out), during=spoil)
    for ended in (first, *ends):
        refused(ended, codes=(0, 2))
    if first.code == 0 or ends[0].code == 0:
        clean(scene.run("verify", scene.out))
    else:
        clean(scene.run(*_build(scene, "prune-and-build", scene.out)))


def appears_meanwhile(scene: Scene, name: str) -> None:
    """A file of the user's appears in the output folder during a run."""
    stop = threading.Event()

    def put(_pid: int) -> None:
        while not (scene.out / ".kprune-export").exists() and not stop.is_set():
            time.sleep(0.002)
        _put(scene.out / name, "file", scene)

    ended = scene.run(*_build(scene, "prune", scene.out), during=put)
    refused(ended, Path(name).parts[0])
    expect((scene.out / name).read_text() == PRECIOUS, "the file was changed")


def single_files(scene: Scene, option: str) -> None:
    """A single file that a command writes is there already, and holds something else."""
    mine = scene.folder / "mine"
    mine.write_text(PRECIOUS)
    commands: dict[str, tuple[object, ...]] = {
        "profile-target -o": ("profile-target", scene.made.classifier, "-o", mine),
        "profile-target --plot": (
            "profile-target", scene.made.classifier, "-o", scene.folder / "t.json", "--plot", mine
        ),
        "prune-and-build --junit": (*_build(scene, "prune-and-build", scene.out), "--junit", mine),
        "validate --junit": ("validate", scene.made.bundle, "--shapes", "1x4", "--junit", mine),
        "sign": ("sign", scene.copy("bundle"), "--private-key", mine),
    }  # fmt: skip
    scene.refuse(commands[option], keeps=(mine,))


def interrupted_work(scene: Scene, damage: str) -> None:
    """The work of a stopped run is damaged, or leads elsewhere; a rerun completes it, or says what is wrong."""
    elsewhere = scene.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.txt").write_text(PRECIOUS)

    def stop(pid: int) -> None:
        end = time.monotonic() + 60
        while not list((scene.out / ".kprune-export").glob("run-*/stages/prune.json")) and time.monotonic() < end:
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)

    scene.run(*_build(scene, "prune-and-build", scene.out), during=stop)
    [run] = (scene.out / ".kprune-export").glob("run-*")
    weights = run / "stages" / "prune" / "checkpoint" / "model.safetensors"
    match damage:
        case "weights cut":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "weights a link":
            weights.rename(elsewhere / "w")
            weights.symlink_to(elsewhere / "w")
        case "record not JSON":
            (run / "stages" / "prune.json").write_bytes(b"\xff{")
        case "scratch a link":
            shutil.rmtree(run / "scratch", ignore_errors=True)
            (run / "scratch").symlink_to(elsewhere)
        case "run a link":
            shutil.move(run, elsewhere / "run")
            run.symlink_to(elsewhere / "run")
        case "a file of the user's":
            (scene.out / ".kprune-export" / "mine.txt").write_text(PRECIOUS)
    before = snapshot(elsewhere / "precious.txt")
    ended = scene.run(*_build(scene, "prune-and-build", scene.out))
    refused(ended, codes=(0, 2))
    unchanged(before, elsewhere / "precious.txt")
    if ended.code == 0:
        clean(scene.run("verify", scene.out))
    if damage == "a file of the user's" and not (scene.out / ".kprune-export" / "mine.txt").exists():
        raise Broken("mine.txt was removed")


_PLACES = ("notes.txt", "onnx/mine.onnx", "checkpoint/vocab.old")
KINDS = (
    Kind(
        "a folder with names of ours",
        "named in the refusal and left",
        tuple(
            Attempt(f"{command} over {name}", (lambda c, n: lambda s: names_of_ours(s, c, n))(command, name))
            for command in BUILDS
            for name in ("onnx/precious.onnx", "triton/config.pbtxt", "plan.json", "checkpoint/model.safetensors")
        ),
    ),
    Kind(
        "a file in a bundle that it does not list",
        "named in the refusal and left",
        each(
            in_a_bundle,
            {f"{x} as a {kind}": (x, kind) for x in _PLACES for kind in ("file", "link", "pipe", "dead link")},
        ),
    ),
    Kind(
        "a file in a repository that it does not list",
        "named in the refusal and left",
        each(
            in_a_repository,
            {f"{x} as a {kind}": (x, kind) for x in ("notes.txt", "encoder/1/mine") for kind in ("file", "link")},
        ),
    ),
    Kind(
        "a manifest that owns nothing",
        "refused, all left",
        each(
            another_record,
            (
                "empty",
                "of another program",
                "of another version",
                "without files",
                "not UTF-8",
                "a link",
                "removed",
            ),
        ),
    ),
    Kind(
        "a manifest that lists files outside",
        "refused, all left",
        each(names_outside, ("../precious.txt", "/etc/hostname", "a/../../precious.txt", "", "a//b", ".")),
    ),
    Kind(
        "an output that is no folder",
        "one sentence",
        each(not_a_folder, ("file", "pipe", "dead link", "socket", "a device", "below a file", "a long name")),
    ),
    Kind(
        "an output folder of another kind",
        "refused, all left",
        each(
            of_another_kind,
            {
                f"{command} over the {made}": (command, made)
                for command in ("triton", "sweep", "compare", "prune", "profile-target")
                for made in ("bundle", "repository")
                if (command, made) not in (("triton", "repository"), ("prune", "bundle"))
            },
        ),
    ),
    Kind(
        "a part of a bundle that is a link",
        "refused, nothing written through it",
        each(links_into_elsewhere, ("checkpoint", "onnx", "plan.json", "manifest.json", "report.html")),
    ),
    Kind(
        "killed while results are replaced",
        "the same command completes them",
        each(
            killed,
            {
                f"{command} at {share:.0%}": (command, share)
                for command, shares in (
                    ("triton", (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)),
                    ("prune-and-build", (0.3, 0.9, 0.97)),
                    ("export", (0.5, 0.95)),
                )
                for share in shares
            },
        ),
    ),
    Kind(
        "a lock removed in mid-run",
        "one sentence, or both done",
        each(lock_removed, ("the lock", "the work folder", "nothing")),
    ),
    Kind(
        "a file that appears in mid-run",
        "named and left",
        each(appears_meanwhile, ("notes.txt", "checkpoint/mine", "plan.json")),
    ),
    Kind(
        "a single file over the user's",
        "refused and left",
        each(
            single_files,
            (
                "profile-target -o",
                "profile-target --plot",
                "prune-and-build --junit",
                "validate --junit",
                "sign",
            ),
        ),
    ),
    Kind(
        "damaged work of a stopped run",
        "made again, or one sentence",
        each(
            interrupted_work,
            (
                "weights cut",
                "weights a link",
                "record not JSON",
                "scratch a link",
                "run a link",
                "a file of the user's",
            ),
        ),
    ),
)
