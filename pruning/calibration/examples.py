"""Reading texts, with or without labels, from the files and data sets that people have."""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pruning.calibration.tables import FILE_KINDS, Table, read_file, read_hub, read_lines
from pruning.calibration.values import (
    CellError,
    Label,
    NamedClass,
    answers_of,
    label_of,
    name_classes,
    text_of,
    words_of,
)
from pruning.errors import CalibrationError

__all__ = [
    "Columns",
    "Example",
    "Label",
    "TextSource",
    "examples_sha256",
    "flatten_pairs",
    "read_examples",
    "read_source",
    "read_table",
    "split_examples",
]

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
        columns: the names of all its columns; empty for a file with one text per line.
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


def check_source(source: str | Path) -> None:
    """Check that a file of texts is there, as far as a source names a file.

    Raises:
        CalibrationError: it is not, or is no file.

    """
    path = Path(source)
    if not path.is_file() and (path.exists() or path.suffix in FILE_KINDS):
        raise CalibrationError(f"The text file {source} {'is not a file' if path.exists() else 'does not exist'}.")


def read_source(source: str | Path, columns: Columns | None = None) -> TextSource:
    """Read examples from a file, or from a data set on the Hugging Face hub.

    A ``.txt`` file has one text per line. ``.jsonl``, ``.csv`` (quoted as in RFC 4180; with semicolons where its
    header has them and no comma), ``.tsv`` (unquoted, as the GLUE tasks are) and ``.parquet`` have columns. A hub
    data set is named ``owner/name[:configuration][@split]``, the split being ``train`` unless it is named. Rows
    without a text are left out. A column ``tokens`` or ``words`` that holds lists is joined to a text, its words
    kept for labels that are about them. Columns that are not used are not read.

    Raises:
        CalibrationError: the source is missing, of an unknown kind, damaged, not UTF-8, has no text
            column, a text column with something else in it, or no text in it.

    """
    check_source(source)
    path = Path(source)
    if path.is_file() and path.suffix == ".txt":
        found = TextSource(tuple(Example(line) for line in read_lines(path)))
    elif path.is_file():
        found = _from_columns(read_file(path), columns or Columns())
    else:
        found = _from_columns(read_hub(str(source)), columns or Columns())
    with_text = tuple(example for example in found.examples if example.text)
    if not with_text:
        why = "every row is empty" if found.examples else "it has no rows"
        raise CalibrationError(f"{source} holds no text: {why}.")
    return replace(found, examples=with_text)


def read_table(path: Path) -> Table:
    """Open the columns of a file that has some.

    Raises:
        CalibrationError: it is missing, damaged, of a kind that is not read, or has no columns.

    """
    if not path.is_file():
        raise CalibrationError(f"The file {path} does not exist.")
    if path.suffix == ".txt":
        raise CalibrationError(f"{path} has no columns: a .jsonl, .csv, .tsv or .parquet file is needed.")
    return read_file(path)


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
        row = json.dumps(parts if example.words else parts[:3], ensure_ascii=False, default=_class_as_json)
        digest.update(row.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _class_as_json(value: NamedClass) -> list[int | str]:
    return [value.number, value.name]


_Read = TypeVar("_Read")


def _from_columns(table: Table, wanted: Columns) -> TextSource:
    text, pair = _text_columns(table, wanted)
    cells = list(table.values(text))
    texts = _read(table, text, text_of, cells)
    words = _read(table, text, words_of, cells)
    pairs: Sequence[str | None] = _read(table, pair, text_of) if pair else [None] * len(cells)
    label = _existing(table, wanted.label) or _first_of(table, TAG_COLUMNS if any(words) else LABEL_COLUMNS)
    labels = _labels(table, label) if label else [None] * len(cells)
    examples = tuple(Example(*row) for row in zip(texts, pairs, labels, words, strict=True))
    return TextSource(examples, tuple(table.names), text, pair, label)


def _labels(table: Table, name: str) -> list[Label | None]:
    """Return a column's labels, by name where the data set names the classes that its numbers count."""
    if name.lower() in ANSWER_COLUMNS:
        return _read(table, name, answers_of)
    classes = table.class_names(name)
    return _read(table, name, lambda cell: label_of(name_classes(cell, classes)))


def _read(table: Table, name: str, read: Callable[[Any], _Read], cells: Sequence[Any] | None = None) -> list[_Read]:
    """Return a column's cells as `read` gives them.

    Raises:
        CalibrationError: a cell is not what the column has to hold; the message names the row.

    """
    found: list[_Read] = []
    for row, cell in enumerate(table.values(name) if cells is None else cells, start=1):
        try:
            found.append(read(cell))
        except CellError as error:
            raise CalibrationError(
                f"The column {name!r} of {table.origin} holds {error} in row {row}, where a text is needed: "
                "name a column of texts with --text-column (a second one with --pair-column)."
            ) from error
    return found


def _text_columns(table: Table, wanted: Columns) -> tuple[str, str | None]:
    if wanted.text:
        return _existing(table, wanted.text) or "", _existing(table, wanted.pair)
    lowered = {name.lower(): name for name in table.names}
    for first, second in PAIR_COLUMNS:
        if first in lowered and second in lowered:
            return lowered[first], lowered[second]
    words = _first_of(table, WORD_COLUMNS)
    if words and any(isinstance(value, list) and value for value in table.values(words)):
        return words, None
    found = _first_of(table, TEXT_COLUMNS)
    if found is None:
        strings = [name for name in dict.fromkeys(table.names) if _has_sentences(table, name)]
        if len(strings) != 1:
            raise CalibrationError(
                f"{table.origin} has no column with a usual name for texts (its columns: "
                f"{', '.join(table.names) or 'none'}): name it with --text-column, and a second one with "
                "--pair-column."
            )
        found = strings[0]
    return found, _existing(table, wanted.pair)


def _has_sentences(table: Table, name: str) -> bool:
    try:
        return table.may_hold_text(name) and any(
            isinstance(cell, str | bytes) and " " in text_of(cell) for cell in table.values(name)
        )
    except CellError:  # bytes that are no text
        return False


def _existing(table: Table, name: str | None) -> str | None:
    if name is not None and name not in table.names:
        raise CalibrationError(
            f"{table.origin} has no column {name!r}: its columns are {', '.join(table.names) or 'none'}."
        )
    return name


def _first_of(table: Table, names: Sequence[str]) -> str | None:
    lowered = {name.lower(): name for name in table.names}
    return next((lowered[name] for name in names if name in lowered), None)
