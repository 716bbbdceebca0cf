"""Outputs that contain, lie in, or are what a command reads."""

import os
import shutil

from break_in_attempts.checks import snapshot, unchanged
from break_in_attempts.scene import Kind, Scene, each

TEXTS = ("--calibration", "data/texts.txt")
READS = "which this command reads"


def _area(scene: Scene) -> None:
    scene.copy("bundle")
    scene.copy("classifier", "model")
    data = scene.folder / "data"
    data.mkdir()
    shutil.copyfile(scene.made.texts, data / "texts.txt")
    (data / "recipe.yaml").write_text("samples: 60\nthreads: 1\n")
    (data / "gates.yaml").write_text("min_agreement: 0.1\n")
    for name in ("table.json", "curves.json", "cache.timing"):
        (data / name).write_text("{}")


def written(scene: Scene, *arguments: str) -> None:
    """Run a command that would write where it reads, and compare everything with what was there before."""
    _area(scene)
    places = tuple(scene.folder / name for name in ("bundle", "model", "data"))
    scene.refuse(arguments, READS, keeps=places)


def by_a_link(scene: Scene, kind: str, command: str) -> None:
    """The same by links: of the output, of the input, of a folder above, of single files, or by a hard link."""
    _area(scene)
    folder = scene.folder
    source, output = ("bundle", "bundle") if command in ("validate", "triton") else ("model", "model")
    match kind:
        case "the output a link":
            (folder / "link").symlink_to(folder / output)
            output = "link"
        case "the input a link":
            (folder / "link").symlink_to(folder / source)
            source = "link"
        case "a link above":
            (folder / "above").symlink_to(folder)
            output = f"above/{output}/new"
        case "a view of links":
            (folder / "view").mkdir()
            for path in (folder / source).iterdir():
                (folder / "view" / path.name).symlink_to(path)
            source = "view"
        case "dots":
            output = f"data/../{output}/."
        case "a link of a link":
            (folder / "one").symlink_to(folder / output)
            (folder / "two").symlink_to("one")
            output = "two/new"
    commands = {
        "prune": ("prune", source, "-o", output, *TEXTS),
        "export": ("export", source, "-o", output),
        "validate": ("validate", source, "--shapes", "1x4", "-o", output),
        "triton": ("triton", source, "--backend", "python", "-o", output),
        "sweep": ("sweep", source, "-o", output, *TEXTS),
        "compare": ("compare", source, "-o", output, *TEXTS),
    }
    before = snapshot(folder / "bundle", folder / "model")
    scene.refuse(commands[command])
    unchanged(before, folder / "bundle", folder / "model")


def a_report(scene: Scene, name: str, link: str) -> None:
    """A JUnit file, or a step summary, that is one of the inputs."""
    _area(scene)
    place = scene.folder / name
    if link == "link":
        (scene.folder / "report").symlink_to(place)
    elif link == "hard link":
        os.link(place, scene.folder / "report")
    said = name if link == "name" else "report"
    command = ("prune-and-build", "model", "-o", "out", *TEXTS, "--recipe", "data/recipe.yaml")
    keeps = (scene.folder / "model", scene.folder / "data")
    if link == "step summary":
        scene.refuse(command, "step summary", keeps=keeps, env={"GITHUB_STEP_SUMMARY": name})
    else:
        scene.refuse((*command, "--junit", said), "JUnit", keeps=keeps)


def each_other(scene: Scene, *arguments: str) -> None:
    """Two outputs of one command in the same place."""
    _area(scene)
    scene.refuse(arguments, keeps=(scene.folder / "bundle", scene.folder / "model", scene.folder / "data"))


_COMMANDS: dict[str, tuple[str, ...]] = {
    "prune into its bundle": ("prune", "bundle/checkpoint", "-o", "bundle", *TEXTS),
    "prune below its model": ("prune", "model", "-o", "model/pruned", *TEXTS),
    "prune over its model": ("prune", "model", "-o", "model", *TEXTS),
    "prune above its model": ("prune", "model", "-o", ".", *TEXTS),
    "prune over its texts' folder": ("prune", "model", "-o", "data", *TEXTS),
    "prune over its texts": ("prune", "model", "-o", "data/texts.txt", *TEXTS),
    "prune over its recipe": ("prune", "model", "-o", "data", "--recipe", "data/recipe.yaml"),
    "export into its bundle": ("export", "bundle/checkpoint", "-o", "bundle"),
    "export below its model": ("export", "model", "-o", "model/onnx"),
    "export over its timing cache": ("export", "model", "-o", "data", "--timing-cache", "data/cache.timing"),
    "build over evaluation texts": ("prune-and-build", "model", "-o", "data", "--evaluation", "data/texts.txt"),
    "build over its table": ("prune-and-build", "model", "-o", "data", "--latency-table", "data/table.json"),
    "build over its curves": ("prune-and-build", "model", "-o", "data", "--sensitivity", "data/curves.json"),
    "build over its gates": ("prune-and-build", "model", "-o", "data", "--gates", "data/gates.yaml"),
    "validate over its bundle": ("validate", "bundle", "-o", "bundle"),
    "validate below its bundle": ("validate", "bundle", "-o", "bundle/validation"),
    "validate over the dense model": ("validate", "bundle", "--dense", "model", "-o", "model"),
    "validate over its gates": ("validate", "bundle", "-o", "data", "--gates", "data/gates.yaml"),
    "compare below its model": ("compare", "model", "-o", "model/comparison", *TEXTS),
    "compare over its texts": ("compare", "model", "-o", "data", *TEXTS),
    "sweep below its model": ("sweep", "model", "-o", "model/family", *TEXTS),
    "sweep over its texts": ("sweep", "model", "-o", "data", *TEXTS),
    "triton over its bundle": ("triton", "bundle", "-o", "bundle"),
    "triton below its bundle": ("triton", "bundle", "-o", "bundle/triton"),
    "triton over a validation": ("triton", "bundle", "-o", "data", "--validated", "data"),
    "a table in its model": ("profile-target", "model", "-o", "model/table.json"),
    "a plot in its model": ("profile-target", "model", "-o", "t.json", "--plot", "model/t.svg"),
}
_LINKS = ("the output a link", "the input a link", "a link above", "a view of links", "dots", "a link of a link")
KINDS = (
    Kind("an input inside of, above or at an output", "refused, all left", each(written, _COMMANDS)),
    Kind(
        "the same by links",
        "links are resolved",
        each(
            by_a_link,
            {
                f"{command}: {kind}": (kind, command)
                for kind in _LINKS
                for command in ("prune", "export", "validate", "triton", "sweep", "compare")
                if kind != "a view of links" or command == "prune"
            },
        ),
    ),
    Kind(
        "a report over an input",
        "refused, all left",
        each(
            a_report,
            {
                f"{name} by {link}": (name, link)
                for name in ("data/texts.txt", "data/recipe.yaml", "model/config.json")
                for link in ("name", "link", "hard link", "step summary")
                if (name, link) != ("model/config.json", "hard link")  # known by its content alone in a folder
            },
        ),
    ),
    Kind(
        "two outputs in one place",
        "refused",
        each(
            each_other,
            {
                "a plot over its table": ("profile-target", "model", "-o", "t.json", "--plot", "t.json"),
                "JUnit in the output": ("validate", "bundle", "-o", "out", "--junit", "out/j.xml"),
                "JUnit as the output": ("prune-and-build", "model", "-o", "out", *TEXTS, "--junit", "out"),
            },
        ),
    ),
)
