"""Reading texts, with or without labels, from the files and data sets that people have."""

import csv
import hashlib
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pruning.errors import CalibrationError

Label = int | float | str | tuple[float, ...] | tuple[str, ...]

PAIR_COLUMNS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "context"),
    ("query", "passage"),
    ("query", "document"),
    ("query", "text"),
    ("text", "text_pair"),
    ("text_a", "text_b"),
    ("anchor", "positive"),
)
TEXT_COLUMNS = ("text", "sentence", "content", "review", "question", "query", "document", "passage", "title")
LABEL_COLUMNS = ("label", "labels", "score", "similarity", "similarity_score", "stars", "target", "answers", "answer")
ANSWER_COLUMNS = ("answers", "answer")
"""Columns whose values are texts, even where they look like numbers."""
WORD_COLUMNS = ("tokens", "words")
"""Columns with a list of words for each row, as data sets for token classification have them."""
TAG_COLUMNS = ("ner_tags", "tags", "labels", "label", "pos_tags")
"""Columns with a label for each word."""
FILE_KINDS = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Example:
    """One text, or a pair of texts for a pair task, with its label where one is given.

    Attributes:
        text: the text; where it was given as words, these with a space between each two.
        pair: the second text.
        label: a number, a name, a number or a name for each of several, or answers that are right.
        words: the words of the text, where it was given so and labels are about them.

    """

    text: str
    pair: str | None = None
    label: Label | None = None
    words: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Columns:
    """The names of the columns to read; those left None are guessed from the usual names.

    Naming ``text`` alone reads single texts even where there is a second text column.
    """

    text: str | None = None
    pair: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class TextSource:
    """What was read of a file or a data set.

    Attributes:
        examples: its rows that have a text.
        columns: the names of all its columns; empty for a file with a text a line.
        text: the column that texts were read from; None where there are no columns.
        pair: the column of the second texts; None where there is none.
        label: the column of the labels; None where there is none.

    """

    examples: tuple[Example, ...]
    columns: tuple[str, ...] = ()
    text: str | None = None
    pair: str | None = None
    label: str | None = None

    @property
    def unread(self) -> tuple[str, ...]:
        """The columns that were not read."""
        return tuple(name for name in self.columns if name not in (self.text, self.pair, self.label))


def read_examples(source: str | Path, columns: Columns | None = None) -> list[Example]:
    """Return the examples of `read_source`, with its errors."""
    return list(read_source(source, columns).examples)


def read_source(source: str | Path, columns: Columns | None = None) -> TextSource:
    """Read examples from a file, or from a data set on the Hugging Face hub.

    A ``.txt`` file has a text a line. ``.jsonl``, ``.csv`` (quoted as in RFC 4180), ``.tsv`` (unquoted,
    as the GLUE tasks are) and ``.parquet`` have columns. A hub data set is named
    ``owner/name[:configuration][@split]``, the split being ``train`` unless it is named. Rows without a
    text are left out. A column ``tokens`` or ``words`` that holds lists is joined to a text, its words kept
    for labels that are about them.

    Raises:
        CalibrationError: the source is missing, of an unknown kind, damaged, not UTF-8, has no text
            column, or has no text in it.

    """
    columns = columns or Columns()
    path = Path(source)
    if path.is_file():
        table = _read_file(path)
    elif path.exists() or path.suffix in FILE_KINDS:
        raise CalibrationError(f"The text file {source} {'is not a file' if path.exists() else 'does not exist'}.")
    else:
        table = _read_hub(str(source))
    found = (
        TextSource(tuple(map(Example, table))) if isinstance(table, list) else _of_table(table, columns, str(source))
    )
    with_text = tuple(example for example in found.examples if example.text)
    if not with_text:
        why = "every row is empty" if found.examples else "it has no rows"
        raise CalibrationError(f"{source} holds no text: {why}.")
    return replace(found, examples=with_text)


def read_table(path: Path) -> dict[str, list[Any]]:
    """Read the columns of a file that has some.

    Raises:
        CalibrationError: it is missing, damaged, of a kind that is not read, or has no columns.

    """
    if not path.is_file():
        raise CalibrationError(f"The file {path} does not exist.")
    table = _read_file(path)
    if isinstance(table, list):
        raise CalibrationError(f"{path} has no columns: a .jsonl, .csv, .tsv or .parquet file is needed.")
    return table


def split_examples(
    examples: Sequence[Example], samples: int, held_out: int, seed: int
) -> tuple[list[Example], list[Example]]:
    """Choose at random which examples to calibrate on and which to hold out for fidelity.

    Repeated texts are used once. The held-out part is at most a fifth of what there is, so that a
    small file still calibrates; no example is in both. With none to hold out all can be chosen.

    Raises:
        CalibrationError: a part is to be held out, and there are fewer than two different texts.

    """
    unique = list({(example.text, example.pair): example for example in reversed(examples)}.values())[::-1]
    if len(unique) < 2 and held_out:
        raise CalibrationError(
            "The calibration data holds a single text, but one to calibrate on and one to hold out are needed."
        )
    random.Random(seed).shuffle(unique)  # noqa: S311 - a sample, not a secret
    kept_back = min(held_out, max(1, len(unique) // 5))
    return unique[kept_back : kept_back + samples], unique[:kept_back]


def flatten_pairs(examples: Sequence[Example]) -> list[Example]:
    """Return every text of every pair as an example of its own, without labels.

    For sentence embedders, which read the two texts of a pair one by one.
    """
    texts = [text for example in examples for text in (example.text, example.pair) if text]
    return [Example(text) for text in dict.fromkeys(texts)]


def examples_sha256(examples: Sequence[Example]) -> str:
    """Return a hash of the examples, their order and their labels included."""
    digest = hashlib.sha256()
    for example in examples:
        parts = [example.text, example.pair, example.label, example.words]
        row = json.dumps(parts if example.words else parts[:3], ensure_ascii=False)
        digest.update(row.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


_Table = dict[str, list[Any]]


def _read_file(path: Path) -> list[str] | _Table:
    if path.suffix not in FILE_KINDS:
        raise CalibrationError(
            f"{path} is of a kind that is not read ({path.suffix or 'no suffix'}): use one of {', '.join(FILE_KINDS)}."
        )
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        text = _decode(path)
        if not text.strip():
            raise CalibrationError(f"{path} is empty: it holds no text.")
        if path.suffix == ".txt":
            return [line.strip() for line in text.splitlines()]
        return _read_json_lines(text, path) if path.suffix == ".jsonl" else _read_delimited(text, path)
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror or error}.") from error


def _decode(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CalibrationError(
            f"{path} is not UTF-8: byte {error.start}, in line {line}, cannot be decoded; convert the file to UTF-8."
        ) from error


def _read_delimited(text: str, path: Path) -> _Table:
    if path.suffix == ".tsv":
        reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    table: _Table = {}
    try:
        header = next(reader, [])
        table = {name: [] for name in header}
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise CalibrationError(
                    f"{path} has {len(row)} fields in line {reader.line_num}, but its header names {len(header)}."
                )
            for name, value in zip(header, row, strict=True):
                table[name].append(value)
    except csv.Error as error:
        raise CalibrationError(f"{path} is not a sound {path.suffix[1:].upper()} file: {error}.") from error
    return table


def _read_json_lines(text: str, path: Path) -> _Table:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CalibrationError(f"{path} is not JSON in line {number}: {error}.") from error
        if not isinstance(row, dict):
            raise CalibrationError(f"{path} has no JSON object in line {number}.")
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _read_parquet(path: Path) -> _Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table: _Table = pyarrow.parquet.read_table(path).to_pydict()
    except (pyarrow.ArrowException, ValueError) as error:
        raise CalibrationError(f"{path} is not a sound Parquet file: {error}.") from error
    return table


def _read_hub(name: str) -> _Table:
    import datasets

    rest, _, split = name.partition("@")
    repository, _, configuration = rest.partition(":")
    try:
        loaded = datasets.load_dataset(repository, configuration or None, split=split or "train")
    except Exception as error:  # datasets raises whatever its builders and its transport raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CalibrationError(
            f"{name} is neither a file here nor a data set that could be fetched from the Hugging Face hub: {reason}"
        ) from error
    table: _Table = loaded.to_dict()
    return table


def _of_table(table: _Table, wanted: Columns, origin: str) -> TextSource:
    text, pair = _text_columns(table, wanted, origin)
    words = [_words(value) for value in table[text]]
    usual = TAG_COLUMNS if any(words) else LABEL_COLUMNS
    label = _existing(table, wanted.label, origin) or _first_of(table, usual)
    rows = len(table[text])
    texts = [_text(value) for value in table[text]]
    pairs = [_text(value) for value in table[pair]] if pair else [None] * rows
    read = _answers if label and label.lower() in ANSWER_COLUMNS else _label
    labels = [read(value) for value in table[label]] if label else [None] * rows
    examples = tuple(Example(*row) for row in zip(texts, pairs, labels, words, strict=True))
    return TextSource(examples, tuple(table), text, pair, label)


def _text_columns(table: _Table, wanted: Columns, origin: str) -> tuple[str, str | None]:
    if wanted.text:
        return _existing(table, wanted.text, origin) or "", _existing(table, wanted.pair, origin)
    lowered = {name.lower(): name for name in table}
    for first, second in PAIR_COLUMNS:
        if first in lowered and second in lowered:
            return lowered[first], lowered[second]
    words = _first_of(table, WORD_COLUMNS)
    if words and any(_words(value) for value in table[words]):
        return words, None
    found = _first_of(table, TEXT_COLUMNS)
    if found is None:
        strings = [name for name, values in table.items() if any(isinstance(x, str) and " " in x for x in values)]
        if len(strings) != 1:
            raise CalibrationError(
                f"{origin} has no column with a usual name for texts (its columns: {', '.join(table) or 'none'}): "
                "name it with --text-column, and a second one with --pair-column."
            )
        found = strings[0]
    return found, _existing(table, wanted.pair, origin)


def _existing(table: _Table, name: str | None, origin: str) -> str | None:
    if name is not None and name not in table:
        raise CalibrationError(f"{origin} has no column {name!r}: its columns are {', '.join(table) or 'none'}.")
    return name


def _first_of(table: _Table, names: Sequence[str]) -> str | None:
    lowered = {name.lower(): name for name in table}
    return next((lowered[name] for name in names if name in lowered), None)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value).strip()


def _words(value: Any) -> tuple[str, ...] | None:
    return tuple(str(word) for word in value) or None if isinstance(value, list) else None


def _answers(value: Any) -> Label | None:
    """Bring answers into one form: all that are right, none where the question has no answer."""
    if isinstance(value, dict):  # as SQuAD has them: texts, and where each begins
        value = value.get("text")
    if isinstance(value, str):
        return (value.strip(),)
    return tuple(str(x) for x in value) if isinstance(value, list) else None


def _label(value: Any) -> Label | None:
    """Bring a label into one form: numbers as numbers, lists as tuples, an empty one as none."""
    if isinstance(value, str):
        for convert in (int, float):
            try:
                return convert(value)
            except ValueError:
                continue
        return value.strip() or None
    if isinstance(value, dict):
        return _answers(value)
    if isinstance(value, list):
        numbers = all(isinstance(x, int | float) for x in value)
        return tuple(float(x) for x in value) if numbers else tuple(str(x) for x in value)
    return value if value is None or isinstance(value, int | float) else str(value)
