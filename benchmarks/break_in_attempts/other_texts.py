"""Texts and labels that results would not be about."""

import json
import random
from pathlib import Path

from break_in_attempts.checks import clean, mentions, refused
from break_in_attempts.scene import QUICK, Kind, Scene, each, expect

_SCRIPTS = {
    "Russian": "это очень хороший фильм",
    "Chinese": "这是一部好电影",
    "Greek": "μια καλή ταινία",
    "Arabic": "فيلم جيد جدا",
    "emoji": "🙂🙃😀😁",
    "hexadecimal": "deadbeef0123 cafebabe4567",
}
_WORDS = ("good", "bad", "film", "story", "plot", "actor", "great", "poor", "long", "short", "funny", "sad")
_PRUNING = (*QUICK[:4], *QUICK[8:])


def _lines(path: Path, text: str, count: int = 300) -> Path:
    path.write_text("\n".join(f"{text} {number}" for number in range(count)), encoding="utf-8")
    return path


def unknown(scene: Scene, script: str, option: str) -> None:
    """Texts in a script, or of words, that the tokenizer does not know."""
    foreign = _lines(scene.folder / "foreign.txt", _SCRIPTS[script])
    texts = ("--calibration", foreign) if option == "calibration" else (*scene.texts, "--evaluation", foreign)
    command = ("prune-and-build", scene.made.classifier, "-o", scene.out, *texts, *QUICK)
    scene.refuse(command, "does not know")


def partly_unknown(scene: Scene, every: int, said: bool) -> None:
    """Texts of which a share is unknown: a warning where it is more than a few, and in the manifest in any case."""
    known = scene.made.texts.read_text(encoding="utf-8").splitlines()
    mixed = [f"{line} хорошо" if number % every == 0 else line for number, line in enumerate(known)]
    path = scene.folder / "mixed.txt"
    path.write_text("\n".join(mixed), encoding="utf-8")
    ended = scene.run(
        "prune-and-build", scene.made.classifier, "-o", scene.out, "--calibration", path, "--held-out", 40, *QUICK
    )
    clean(ended)
    expect(("does not know" in " ".join(ended.err.split())) == said, "the share of unknown text and the warning differ")
    manifest = json.loads((scene.out / "manifest.json").read_text())
    expect(manifest["calibration"]["unknown_share"] > 0, "the manifest does not state the share of unknown text")


def _labelled(path: Path, labels: list[object], form: str) -> Path:
    chance = random.Random(0)
    texts = [" ".join(chance.choices(_WORDS, k=8)) for _ in labels]
    if form == "parquet":
        import datasets

        names = [str(x) for x in dict.fromkeys(labels)]
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        rows = {"text": texts, "label": [names.index(str(x)) for x in labels]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    else:
        rows_of = [json.dumps({"text": x, "label": y}) for x, y in zip(texts, labels, strict=True)]
        path.write_text("\n".join(rows_of), encoding="utf-8")
    return path


def _answers(scene: Scene) -> list[str]:
    """Return the dense model's own labels for the texts that `_labelled` writes."""
    import torch
    import transformers

    chance = random.Random(0)
    texts = [" ".join(chance.choices(_WORDS, k=8)) for _ in range(120)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(scene.made.classifier)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(scene.made.classifier)
    with torch.no_grad():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    return [model.config.id2label[int(x)] for x in logits.argmax(-1)]


def class_order(scene: Scene, change: str) -> None:
    """A data set whose classes have the model's names in another order, or another spelling."""
    answers = _answers(scene)
    spelled = {
        "another order": answers,
        "capitals": [x.capitalize() for x in answers],
        "upper case": [x.upper() for x in answers],
    }[change]
    path = scene.folder / "dev.parquet"
    other_first = sorted(range(len(spelled)), key=lambda n: answers[n] != "positive")
    _labelled(path, [spelled[n] for n in other_first], "parquet")
    # the rows were drawn in order: put the labels back to their texts
    import datasets

    order = ["positive", "negative"]
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=[_like(x, change) for x in order])}
    )
    chance = random.Random(0)
    texts = [" ".join(chance.choices(_WORDS, k=8)) for _ in answers]
    rows = {"text": texts, "label": [order.index(x) for x in answers]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    command = ("prune-and-build", scene.made.classifier, "-o", scene.out, *scene.texts, "--evaluation", path)
    ended = scene.run(*command, *QUICK, "--json")
    clean(ended)
    metrics = json.dumps(json.loads(ended.out))
    dense = list(metrics.split('"dense": ')[1:])
    expect(any(part.startswith("1.0") for part in dense), "labels were not matched with the model's by their names")


def _like(name: str, change: str) -> str:
    return {"capitals": name.capitalize(), "upper case": name.upper()}.get(change, name)


def reversed_integers(scene: Scene, gate: bool) -> None:
    """Bare numbers in another order than the model's: said beside the metric, and its gate left inconclusive."""
    answers = _answers(scene)
    path = _labelled(scene.folder / "dev.jsonl", [int(x == "negative") for x in answers], "jsonl")
    command = ("prune-and-build", scene.made.classifier, "-o", scene.out, *scene.texts, "--evaluation", path, *QUICK)
    ended = scene.run(*command, *(("--min-metric", 0.001) if gate else ()))
    clean(ended, (6,) if gate else (0,))
    mentions(ended.err + ended.out, "chance|order")


def unusable_labels(scene: Scene, form: str) -> None:
    """Labels that the model does not have, or that are no labels."""
    labels: dict[str, list[object]] = {
        "names of others": ["good", "bad"] * 60,
        "numbers beyond": [0, 7] * 60,
        "negative": [0, -1] * 60,
        "fractions": [0.5, 1] * 60,
        "nan": [float("nan"), 1] * 60,
        "inf": [float("inf"), 1] * 60,
        "lists": [[0], [1]] * 60,
        "booleans and text": [True, "positive"] * 60,
        "huge": [10**30, 1] * 60,
    }
    path = _labelled(scene.folder / "dev.jsonl", labels[form], "jsonl")
    command = ("prune-and-build", scene.made.classifier, "-o", scene.out, *scene.texts, "--evaluation", path, *QUICK)
    ended = scene.run(*command, "--min-metric", 0.1)
    refused(ended, codes=(2, 3, 6))


def no_labels(scene: Scene, header: str, option: tuple[str, ...]) -> None:
    """Labels that are asked for and not there."""
    dev = scene.folder / "dev.csv"
    dev.write_text(f"{header}\n" + "".join("a good film,positive\n" for _ in range(20)))
    command = ("prune-and-build", scene.made.classifier, "-o", scene.out, *scene.texts, "--evaluation", dev, *QUICK)
    scene.refuse((*command, *option), "label|column")


def default_texts(scene: Scene, gate: tuple[object, ...]) -> None:
    """Gates on fidelity without texts of the user's: the verdict must not say that they passed on these alone."""
    ended = scene.run("prune-and-build", scene.made.classifier, "-o", scene.out, *QUICK, *gate)
    refused(ended, codes=(0, 2, 3, 6))
    mentions(ended.err + ended.out, "default texts|does not know")


def evaluation_is_calibration(scene: Scene, how: str) -> None:
    """Held-out texts that were calibrated on."""
    texts = scene.made.texts
    if how == "the same lines in another file":
        texts = scene.folder / "other.txt"
        texts.write_text("\n".join(reversed(scene.made.texts.read_text().splitlines())))
    command = ("prune-and-build", scene.made.classifier, "-o", scene.out, *scene.texts, "--evaluation", texts, *QUICK)
    scene.refuse(command)


def few_texts(scene: Scene, count: int) -> None:
    """No texts, or so few that nothing can be said with them."""
    path = scene.folder / "few.txt"
    path.write_text("\n".join(["a good film", "a bad story", "the plot"][:count]))
    scene.refuse(("prune-and-build", scene.made.classifier, "-o", scene.out, "--calibration", path, *QUICK), "text")


KINDS = (
    Kind(
        "texts that the tokenizer does not know",
        "refused",
        each(
            unknown,
            {
                f"{script} for {option}": (script, option)
                for script in _SCRIPTS
                for option in ("calibration", "evaluation")
                if (script, option) != ("emoji", "evaluation")
            },
        ),
    ),
    Kind(
        "texts that it partly does not know",
        "a warning from a few, the share in the manifest",
        each(partly_unknown, {"every text": (1, True), "every tenth text": (10, False)}),
    ),
    Kind(
        "classes in another order or spelling",
        "matched by name",
        each(class_order, ("another order", "capitals", "upper case")),
    ),
    Kind(
        "numbers for classes in another order",
        "said, and the gate inconclusive",
        each(reversed_integers, {"without a gate": (False,), "with --min-metric": (True,)}),
    ),
    Kind(
        "labels that are none of the model's",
        "one sentence, or inconclusive",
        each(
            unusable_labels,
            (
                "names of others",
                "numbers beyond",
                "negative",
                "fractions",
                "nan",
                "inf",
                "lists",
                "booleans and text",
                "huge",
            ),
        ),
    ),
    Kind(
        "labels that are not there",
        "refused with the columns' names",
        each(
            no_labels,
            {
                "--min-metric": ("text,gold", ("--min-metric", "0.5")),
                "--label-column": ("text,gold", ("--label-column", "labels")),
                "--text-column": ("text,gold", ("--text-column", "sentence")),
                "--pair-column": ("text,gold", ("--pair-column", "second")),
            },
        ),
    ),
    Kind(
        "gates on texts that are not the user's",
        "the verdict says so, or refused",
        each(
            default_texts, {"--min-agreement": (("--min-agreement", 0.1),), "--min-speedup": (("--min-speedup", 0.1),)}
        ),
    ),
    Kind(
        "held-out texts that were calibrated on",
        "refused",
        each(evaluation_is_calibration, ("the same file", "the same lines in another file")),
    ),
    Kind("too few texts", "refused", each(few_texts, {f"{count} texts": (count,) for count in (0, 1, 2)})),
)
