"""Numbers that are infinite, no numbers, huge, negative or nothing, in flags and recipes."""

from break_in_attempts.checks import cheap, no_crash, refused
from break_in_attempts.scene import QUICK, Attempt, Kind, Scene, each

BAD = ("nan", "inf", "-1", "0", "1e400", "9" * 30, "١٢x")
_COUNTS = (
    "--samples", "--held-out", "--sequence-length", "--seed", "--threads", "--align", "--workspace-mib",
    "--optimization-level",
)  # fmt: skip
_SHARES = (
    "--flops-reduction", "--target-speedup", "--target-latency-ms", "--timing-seconds", "--ridge", "--temperature",
    "--balance", "--head-weight", "--min-speedup", "--min-agreement", "--min-metric", "--max-size-mib", "--min-overlap",
)  # fmt: skip
SHAPES = (
    "0x8", "-1x8", "1x8x9", "1x1000000000000", "1000000000000x1", "nanxinf", ",", "1x8=nan", "1x8=-1", "1x65",
)  # fmt: skip


def flag(scene: Scene, option: str) -> None:
    """All bad values for one option of `prune-and-build`; only a good one may run."""
    for value in BAD:
        command = ("prune-and-build", scene.made.classifier, "-o", scene.out, "--calibration", "nowhere.txt")
        ended = scene.run(*command, f"{option}={value}")
        refused(ended)  # at the latest because the texts are not there
        cheap(ended, 20, 1000, scene.base_mib)


def in_a_recipe(scene: Scene, key: str) -> None:
    """The same values in a recipe, where YAML makes numbers, texts, dates and lists of them."""
    recipe = scene.folder / "recipe.yaml"
    for value in (".nan", ".inf", "-1", "9" * 5000, "[1]", "{a: 1}", "2001-01-01", "!!binary x"):
        recipe.write_text(f"{key}: {value}\n")
        command = ("prune-and-build", scene.made.classifier, "-o", scene.out, "--calibration", "nowhere.txt")
        ended = scene.run(*command, "--recipe", recipe)
        refused(ended)


def shapes(scene: Scene, command: str) -> None:
    """Shapes that are none, or that no memory holds."""
    for shape in SHAPES:
        commands: dict[str, tuple[object, ...]] = {
            "prune-and-build": ("prune-and-build", scene.made.classifier, "-o", scene.out, "--calibration", "nowhere"),
            "profile-target": ("profile-target", scene.made.classifier, "-o", scene.folder / "t.json", "--align", "0"),
            "validate": ("validate", scene.made.bundle, "--calibration", "nowhere.txt"),
            "sweep": ("sweep", scene.made.classifier, "-o", scene.out, "--calibration", "nowhere.txt"),
            "a target": (
                "prune-and-build", scene.made.classifier, "-o", scene.out, "--calibration", "nowhere.txt",
                "--target-speedup", "1.5",
            ),
        }  # fmt: skip
        option = "--target-shapes" if command == "a target" else "--shapes"
        ended = scene.run(*commands[command], f"{option}={shape}", limit=60)
        refused(ended)
        cheap(ended, 30, 2000, scene.base_mib)


def huge(scene: Scene, option: str, value: str) -> None:
    """One huge value, with all else in order: refused, or done at the cost of a usual run."""
    command = ("prune-and-build", scene.made.classifier, "-o", scene.out, *scene.texts, *QUICK)
    ended = scene.run(*command, f"{option}={value}", limit=150)
    no_crash(ended)
    cheap(ended, 120, 3000, scene.base_mib)


def configuration(scene: Scene, key: str) -> None:
    """Numbers in a model's configuration."""
    for number, value in enumerate((-1, 2**31, 2**63, float("nan"), float("inf"), "8", [8])):
        model = scene.copy("classifier", f"model{number}")
        scene.edit(model / "config.json", **{key: value})
        ended = scene.run("prune", model, "-o", scene.folder / f"out{number}", "--calibration", "nowhere.txt")
        refused(ended)
        cheap(ended, 30, 1500, scene.base_mib)


def lists(scene: Scene, command: tuple[str, ...]) -> None:
    """Lists of numbers and names."""
    for value in (",", "nan", "inf", "-1", "0.5,0.5", "1e999", "x"):
        arguments = (command[0], scene.made.classifier, "-o", scene.out, "--calibration", "nowhere.txt")
        refused(scene.run(*arguments, f"{command[1]}={value}"))


KINDS = (
    Kind("numbers of flags that are counts", "one sentence", each(flag, _COUNTS)),
    Kind("numbers of flags that are real", "one sentence", each(flag, _SHARES)),
    Kind(
        "numbers in a recipe",
        "one sentence",
        each(
            in_a_recipe,
            (
                "samples",
                "held_out",
                "sequence_length",
                "seed",
                "threads",
                "flops_reduction",
                "target_speedup",
                "timing_seconds",
                "ridge",
                "min_agreement",
                "max_size_mib",
                "shapes",
                "precision",
                "runtime",
                "model",
                "calibration",
                "method",
                "allow_pickle",
            ),
        ),
    ),
    Kind(
        "shapes that are none",
        "one sentence",
        each(shapes, ("prune-and-build", "profile-target", "validate", "sweep", "a target")),
    ),
    Kind(
        "one huge number",
        "one sentence, or the cost of a usual run",
        tuple(
            Attempt(f"{option} {value}", (lambda o, v: lambda s: huge(s, o, v))(option, value))
            for option, value in (
                ("--sequence-length", "1000000000000"),
                ("--target-speedup", "inf"),
                ("--target-speedup", "1e300"),
                ("--samples", "1000000000"),
                ("--held-out", "1000000000"),
                ("--threads", "1000000"),
                ("--align", "1000000"),
                ("--seed", "18446744073709551616"),
                ("--ridge", "1e300"),
                ("--min-agreement", "1e300"),
                ("--flops-reduction", "0.999999999"),
                ("--flops-reduction", "1e-300"),
                ("--max-size-mib", "1e-300"),
            )
        ),
    ),
    Kind(
        "numbers in a configuration",
        "one sentence",
        each(
            configuration,
            (
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "intermediate_size",
                "vocab_size",
                "max_position_embeddings",
                "type_vocab_size",
                "layer_norm_eps",
                "pad_token_id",
                "num_labels",
            ),
        ),
    ),
    Kind(
        "lists of numbers",
        "one sentence",
        each(
            lists,
            {
                "compare --rates": (("compare", "--rates"),),
                "compare --seeds": (("compare", "--seeds"),),
                "compare --methods": (("compare", "--methods"),),
                "sweep --speedups": (("sweep", "--speedups"),),
                "sweep --precisions": (("sweep", "--precisions"),),
            },
        ),
    ),
)
