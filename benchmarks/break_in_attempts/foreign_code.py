"""Code that comes with a checkpoint, a bundle or a folder, and would leave a mark where it is run."""

import json
import os
import pickle
import shutil
import subprocess
from pathlib import Path

from break_in_attempts.checks import absent, clean, no_crash, refused
from break_in_attempts.scene import QUICK, Kind, Scene, each, expect

MODULES = (
    "numpy",
    "onnxruntime",
    "pydantic",
    "torch",
    "transformers",
    "typer",
    "exporters",
    "pruning",
    "json",
    "signal",
)
_PRUNING = (*QUICK[:4], *QUICK[8:])


def _marks(scene: Scene) -> str:
    return f"import os\nos.close(os.open({str(scene.mark)!r}, os.O_CREAT | os.O_WRONLY))\n"


def _hostile(scene: Scene, names: tuple[str, ...] = MODULES) -> Path:
    """Return a checkpoint with files that have the names of modules."""
    folder = scene.copy("classifier", "checkpoint")
    for name in (*names, "sitecustomize", "usercustomize"):
        (folder / f"{name}.py").write_text(f"{_marks(scene)}raise RuntimeError('{name} was imported')\n")
    return folder


def from_inside(scene: Scene, command: str) -> None:
    """A command started in a checkpoint's folder, where modules have the names of the product's own."""
    folder = _hostile(scene)
    commands: dict[str, tuple[object, ...]] = {
        "prune": ("prune", ".", "-o", scene.out, *scene.texts, *_PRUNING),
        "prune-and-build --isolate": ("prune-and-build", ".", "-o", scene.out, *scene.texts, *QUICK, "--isolate"),
        "sweep": (
            "sweep", ".", "-o", scene.out, *scene.texts, "--speedups", "1.2", "--precisions", "fp32",
            "--parallel", 2, *QUICK[:2], *QUICK[4:],
        ),
        "inspect": ("inspect", "."),
        "verify": ("verify", scene.made.bundle),
        "doctor": ("doctor",),
        "--help": ("--help",),
    }  # fmt: skip
    ended = scene.run(*commands[command], real=True, cwd=folder, limit=300)
    absent(scene.mark)
    clean(ended, (0, 3) if command == "sweep" else (0,))


def git_repository(scene: Scene, what: str) -> None:
    """A checkpoint in a repository whose configuration names commands."""
    folder = scene.copy("classifier", "checkpoint")
    git = ("git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run([*git, "add", "config.json"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    script = scene.folder / "script.sh"
    script.write_text(f"#!/bin/sh\ntouch {scene.mark}\ncat\n")
    script.chmod(0o755)
    if what == "a hook":
        for name in ("post-index-change", "post-checkout", "pre-commit", "fsmonitor-watchman"):
            shutil.copy(script, folder / ".git" / "hooks" / name)
    elif what == "a clean filter":
        (folder / ".gitattributes").write_text("* filter=evil\n")
        subprocess.run([*git, "config", "filter.evil.clean", str(script)], check=True)
    else:
        subprocess.run([*git, "config", what, str(script)], check=True)
    os.utime(folder / "config.json", (1, 1))  # so that its content is compared
    scene.mark.unlink(missing_ok=True)
    ended = scene.run("prune", ".", "-o", scene.out, *scene.texts, *_PRUNING, cwd=folder)
    absent(scene.mark)
    clean(ended)


class _Runs:
    """An object whose unpickling writes the mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def pickled(scene: Scene, name: str, flags: tuple[str, ...], command: str) -> None:
    """Weights that are a pickle with code in it."""
    folder = scene.copy("classifier", "checkpoint")
    (folder / "model.safetensors").unlink()
    with (folder / name).open("wb") as file:
        pickle.dump({"x": _Runs(scene.mark)}, file)
    options = _PRUNING if command == "prune" else ("--threads", 1)
    texts = scene.texts if command == "prune" else ()
    scene.refuse((command, folder, "-o", scene.out, *texts, *options, *flags))
    absent(scene.mark)


def pickle_by_another_name(scene: Scene, name: str) -> None:
    """A pickle where another file is expected."""
    folder, bundle = scene.copy("embedder", "checkpoint"), scene.copy("bundle")
    place = {"checkpoint": folder, "bundle": bundle}[name.split(":")[0]] / name.split(":")[1]
    with place.open("wb") as file:
        pickle.dump(_Runs(scene.mark), file)
    if name.startswith("checkpoint"):
        no_crash(scene.run("prune", folder, "-o", scene.out, *scene.texts, *_PRUNING))
    else:
        for command in (("verify", bundle), ("inspect", bundle), ("diff", bundle, bundle)):
            ended = scene.run(*command)
            clean(ended, (0, 2))
    absent(scene.mark)


def remote_code(scene: Scene, file: str, key: str, value: object) -> None:
    """Settings that make transformers run code, here and where the README's `trust_remote_code=True` reads ours."""
    folder = scene.copy("embedder" if "Pooling" in file or file == "modules.json" else "classifier", "checkpoint")
    for name in ("evil.py", "modeling_evil.py"):
        (folder / name).write_text(f"{_marks(scene)}class Evil: pass\n")
    if file == "modules.json":
        modules = json.loads((folder / file).read_text())
        modules[0][key] = value
        (folder / file).write_text(json.dumps(modules))
    else:
        path = folder / file
        if not path.exists():
            path.write_text("{}")
        scene.edit(path, **{key: value})
    ended = scene.run("prune", folder, "-o", scene.out, *scene.texts, *_PRUNING)
    refused(ended, codes=(0, 2))
    absent(scene.mark)
    if ended.code == 0:
        shipped = scene.out / "checkpoint"
        code = {path.name for path in shipped.rglob("*.py")}
        expect(code <= {"modeling_kprune.py"}, f"code of the checkpoint was shipped: {code}")
        for path in shipped.rglob("*.json"):
            text = path.read_text(encoding="utf-8")
            expect("evil" not in text.lower(), f"{path.name} names code of the checkpoint")


def recipe_tags(scene: Scene, text: str) -> None:
    """YAML tags that make Python objects."""
    recipe = scene.folder / "recipe.yaml"
    recipe.write_text(text.format(mark=scene.mark))
    for option in ("--recipe", "--gates"):
        model = scene.made.classifier
        scene.refuse(("prune-and-build", model, "-o", scene.out, *scene.texts, option, recipe))
    absent(scene.mark)


def interpolated(scene: Scene, name: str) -> None:
    """Names that a shell would run."""
    mark = f"touch {scene.mark}"
    place = scene.folder / name.format(mark=mark.replace("/", "_"))
    shutil.copytree(scene.made.classifier, place)
    for command in (("inspect", place), ("prune", place, "-o", scene.out, *scene.texts, *_PRUNING)):
        no_crash(scene.run(*command))
    absent(scene.mark, scene.folder / scene.mark.name)


_EVIL = ["evil.Evil", "evil.Evil"]
KINDS = (
    Kind(
        "modules in the working directory",
        "not imported, by no process",
        each(from_inside, ("prune", "prune-and-build --isolate", "sweep", "inspect", "verify", "doctor", "--help")),
    ),
    Kind(
        "commands of a git repository",
        "not run",
        each(
            git_repository,
            ("a clean filter", "a hook", "core.fsmonitor", "core.pager", "diff.external", "core.sshCommand"),
        ),
    ),
    Kind(
        "weights that are a pickle with code",
        "refused, not run",
        each(
            pickled,
            {
                f"{command} {name} {' '.join(flags)}": (name, flags, command)
                for command in ("prune", "export")
                for name in ("pytorch_model.bin", "model.pt")
                for flags in ((), ("--allow-pickle",))
            },
        ),
    ),
    Kind(
        "a pickle by another name",
        "not read",
        each(
            pickle_by_another_name,
            (
                "checkpoint:model.safetensors",
                "checkpoint:tokenizer.json",
                "checkpoint:training_args.bin",
                "checkpoint:1_Pooling/config.json",
                "bundle:manifest.json",
                "bundle:plan.json",
                "bundle:latency.json",
            ),
        ),
    ),
    Kind(
        "settings that name code",
        "not run, and not shipped",
        each(
            remote_code,
            {
                f"{file}: {key}": (file, key, value)
                for file, key, value in (
                    (
                        "config.json",
                        "auto_map",
                        {"AutoModelForSequenceClassification": "evil.Evil", "AutoConfig": "evil.Evil"},
                    ),
                    ("config.json", "custom_pipelines", {"x": {"impl": "evil.Evil", "pt": ["AutoModel"]}}),
                    ("config.json", "trust_remote_code", "evil"),
                    ("config.json", "_name_or_path", "/evil"),
                    ("config.json", "sbert_ce_default_activation_function", "evil.Evil"),
                    ("config.json", "attn_implementation", "evil/kernel"),
                    ("tokenizer_config.json", "auto_map", {"AutoTokenizer": _EVIL}),
                    ("tokenizer_config.json", "custom_pipelines", {"x": {"impl": "evil.Evil"}}),
                    ("tokenizer_config.json", "chat_template", "{{ evil }}"),
                    ("tokenizer_config.json", "tokenizer_file", "/evil"),
                    ("tokenizer_config.json", "tokenizer_class", "Evil"),
                    ("1_Pooling/config.json", "activation_function", "evil.Evil"),
                    ("sentence_bert_config.json", "model_args", {"trust_remote_code": True, "evil": 1}),
                    ("modules.json", "type", "evil.Evil"),
                    ("modules.json", "kwargs", ["evil"]),
                )
            },
        ),
    ),
    Kind(
        "YAML that makes objects",
        "refused, not run",
        each(
            recipe_tags,
            {
                "os.system": ("model: !!python/object/apply:os.system ['touch {mark}']\n",),
                "subprocess": ("seed: !!python/object/new:subprocess.Popen [[touch, '{mark}']]\n",),
                "a module": ("seed: !!python/module:antigravity\n",),
                "a name": ("seed: !!python/name:os.system\n",),
            },
        ),
    ),
    Kind(
        "names that a shell would run",
        "taken as names",
        each(interpolated, ("$({mark})", "`{mark}`", "; {mark};", "| {mark}", "'\"{mark}")),
    ),
)
