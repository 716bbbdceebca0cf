"""Text of models and files that would control a terminal or a page."""

import json
import os
from pathlib import Path

from break_in_attempts.checks import Broken, clean, no_crash, printable
from break_in_attempts.scene import QUICK, Kind, Scene, each

EVIL = {
    "a title": "\x1b]0;owned\x07",
    "a clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "a clearing": "\x1b[2J\x1b[H",
    "C1": "\x9b31m",
    "bidirectional marks": "\u202eevil\u2066",
    "carriage return": "fine\rError: evil",
    "a backspace": "evil\x08\x08\x08\x08good",
    "line separators": "a\u2028b\u2029c",
    "tags": "\U000e0041\U000e0042",
}
MARKUP = {
    "a closing tag": "[/x]",
    "bold": "[bold]x",
    "a link": "[link=file:///etc/passwd]a[/link]",
    "an emoji": ":bug:",
}
HTML = {
    "a script": "<script>alert(1)</script>",
    "an image": "<img src=x onerror=alert(1)>",
    "an attribute": '" onclick="x',
}
MARKDOWN = {
    "a column": "a | b",
    "an image": "![x](http://example.com/x)",
    "a heading": "\n# x",
    "an HTML comment": "<!-- x",
}


def _bundle(scene: Scene, text: str) -> Path:
    bundle = scene.copy("bundle")
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest |= {"task": text, "labels": [text, "b"], "versions": {text: text}, "command": text, "notes": [text]}
    manifest["source"]["model"] = manifest["recipe"]["model"] = text
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return bundle


def in_a_manifest(scene: Scene, name: str, text: str) -> None:
    """Texts in a bundle's manifest, shown by all commands that read it."""
    bundle = _bundle(scene, text)
    for command in (
        ("diff", scene.made.bundle, bundle),
        ("diff", scene.made.bundle, bundle, "--markdown"),
        ("diff", scene.made.bundle, bundle, "--json"),
        ("inspect", bundle),
        ("inspect", bundle, "--json"),
        ("verify", bundle),
        ("verify", bundle, "--json"),
        ("push", bundle, "me/model", "--dry-run"),
        ("validate", bundle, "--shapes", "1x4", "--threads", 1, "--timing-seconds", 0.02),
    ):
        ended = scene.run(*command)
        no_crash(ended)
        if name in MARKUP and command[0] in ("diff", "inspect") and "--json" not in command:
            shown = " ".join((ended.out + ended.err).split())
            if text not in shown and "…" not in shown:
                raise Broken(f"{command[0]} took {text!r} for markup")


def in_labels(scene: Scene, name: str, text: str) -> None:
    """Labels of the model, in the report, the model card and the JUnit file."""
    from tiny_models import save_tiny

    model = save_tiny(scene.folder / "model", labels=(text, "positive"))
    junit = scene.folder / "j.xml"
    command = (
        "prune-and-build",
        model,
        "-o",
        scene.out,
        *scene.texts,
        *QUICK,
        "--junit",
        junit,
        "--min-agreement",
        0.1,
    )
    no_crash(scene.run(*command))
    for path in (scene.out / "report.html", scene.out / "checkpoint" / "README.md", junit):
        content = path.read_text(encoding="utf-8")
        printable(content, path.name)
        if name in HTML and path.suffix == ".html" and text in content:
            raise Broken(f"{path.name} has {text!r} as it is")


def in_names(scene: Scene, name: str, text: str) -> None:
    """Names of folders and files."""
    place = scene.folder / text.replace("/", "_")
    for command in (
        ("inspect", place),
        ("verify", place),
        ("prune", place, "-o", scene.out, *scene.texts),
        ("export", scene.made.classifier, "-o", place / "x", "--calibration", place),
        ("diff", place, place),
        ("triton", place, "-o", scene.out),
        ("prune-and-build", "--recipe", place),
    ):
        no_crash(scene.run(*command))
    bundle = scene.copy("bundle")
    (bundle / text.replace("/", "_")).write_text("")
    clean(scene.run("verify", bundle), (2,))  # which lists it


def in_settings(scene: Scene, name: str, text: str) -> None:
    """Values of options and of a recipe, repeated in a message."""
    recipe = scene.folder / "recipe.yaml"
    for values in ({text: 1}, {"method": text}, {"seed": text}, {"precision": text}, {"pooling": text}):
        recipe.write_text(json.dumps(values), encoding="utf-8")
        no_crash(scene.run("prune", scene.made.classifier, "-o", scene.out, "--recipe", recipe))
    for option in ("--method", "--seed", "--shapes", "--pooling", "--" + text):
        no_crash(scene.run("prune", scene.made.classifier, "-o", scene.out, option, text))


def in_a_configuration(scene: Scene, name: str, text: str) -> None:
    """Values of a configuration, repeated in a message."""
    for key in ("model_type", "architectures", "hidden_act", "torch_dtype", "problem_type", "auto_map"):
        model = scene.copy("classifier", f"model-{key}")
        value: object = {"auto_map": {"AutoModel": text}, "architectures": [text]}.get(key, text)
        scene.edit(model / "config.json", **{key: value})
        no_crash(scene.run("inspect", model))
        no_crash(scene.run("export", model, "-o", scene.folder / f"out-{key}", "--threads", 1))


def not_utf8(scene: Scene, where: str) -> None:
    """Names that are not UTF-8."""
    odd = os.fsdecode(b"t\xff\x1b[2J")
    texts = scene.folder / f"{odd}.txt"
    texts.write_text("a good film")
    commands: dict[str, tuple[object, ...]] = {
        "texts": ("prune", scene.made.classifier, "-o", scene.out, "--calibration", texts),
        "a model": ("prune", scene.folder / odd, "-o", scene.out),
        "an output": ("export", scene.made.classifier, "-o", scene.folder / odd),
        "a bundle": ("verify", scene.folder / odd),
        "a recipe": ("prune", "--recipe", scene.folder / odd, "-o", scene.out),
    }
    scene.refuse(commands[where], "UTF-8")


def _of(texts: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (name, text) for name, text in texts.items()}


KINDS = (
    Kind("escapes in a manifest", "written out", each(in_a_manifest, _of(EVIL))),
    Kind("markup in a manifest", "shown as it is", each(in_a_manifest, _of(MARKUP | HTML))),
    Kind("escapes and HTML in labels", "written out in report, card and JUnit", each(in_labels, _of(EVIL | HTML))),
    Kind("escapes in names", "written out", each(in_names, _of(EVIL | MARKUP))),
    Kind("escapes in settings", "written out", each(in_settings, _of(EVIL | MARKUP))),
    Kind("escapes in a configuration", "written out", each(in_a_configuration, _of(EVIL))),
    Kind(
        "names that are not UTF-8", "refused", each(not_utf8, ("texts", "a model", "an output", "a bundle", "a recipe"))
    ),
)
