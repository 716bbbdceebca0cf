"""Tables of texts and labels: files and data sets, of which only the columns that are asked for are read."""

import contextlib
import csv
import io
import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pruning.errors import CalibrationError

logger = logging.getLogger(__name__)

FILE_KINDS = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")
_LONGEST_FIELD = 2**31 - 1
"""Characters in a field of a CSV file, where Python's reader stops at 131,072; the file is in memory anyway."""
_ROWS_AT_ONCE = 256
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Table(ABC):
    """Named columns of equal length.

    Args:
        names: the columns' names in order; a name may be there several times.
        origin: the file or the data set, for messages.

    """

    def __init__(self, names: Sequence[str], origin: str) -> None:
        self.names = tuple(names)
        self.origin = origin

    def values(self, name: str) -> Iterator[Any]:
        """Yield a column's values, reading a few rows at a time where the table is not in memory.

        Raises:
            CalibrationError: several columns have this name, or the values cannot be read.

        """
        if self.names.count(name) > 1:
            raise CalibrationError(
                f"The header of {self.origin} names the column {name!r} {self.names.count(name)} times: rename all but "
                "one."
            )
        return self._values(name)

    def may_hold_text(self, name: str) -> bool:  # noqa: ARG002 - tables that know their types say more
        """Whether a column's type allows texts."""
        return True

    def class_names(self, name: str) -> tuple[str, ...]:  # noqa: ARG002 - files of text have none
        """Return the names of the classes that a column's numbers count, in order; none where it has no such names."""
        return ()

    @abstractmethod
    def _values(self, name: str) -> Iterator[Any]:
        """Yield the values of the only column of this name."""


def read_lines(path: Path) -> list[str]:
    r"""Read one text per line, without spaces around it; lines end at ``\n``, ``\r\n`` or ``\r`` and nowhere else.

    Raises:
        CalibrationError: the file cannot be read, is empty, or is not UTF-8.

    """
    return [line.strip() for line in io.StringIO(_decoded(path), newline=None)]


def read_file(path: Path) -> Table:
    """Open a ``.jsonl``, ``.csv``, ``.tsv`` or ``.parquet`` file.

    Raises:
        CalibrationError: it is of another kind, cannot be read, is empty, damaged, or not UTF-8.

    """
    if path.suffix not in FILE_KINDS:
        raise CalibrationError(
            f"{path} is of a kind that is not read ({path.suffix or 'no suffix'}): use one of {', '.join(FILE_KINDS)}."
        )
    if path.suffix == ".parquet":
        return _ParquetTable(path)
    text = _decoded(path)
    return _read_json_lines(text, path) if path.suffix == ".jsonl" else _read_delimited(text, path)


def read_hub(name: str) -> Table:
    """Open a data set of the Hugging Face hub, named ``owner/name[:configuration][@split]``.

    Raises:
        CalibrationError: it cannot be fetched, or is none.

    """
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
    return _HubTable(loaded, name)


def names_in_feature(feature: Any) -> tuple[str, ...]:
    """Return the class names in a feature of the datasets library, as it writes features in JSON, or in lists of it."""
    if isinstance(feature, list) and feature:
        return names_in_feature(feature[0])
    if not isinstance(feature, dict):
        return ()
    names = feature.get("names")
    if feature.get("_type") == "ClassLabel" and isinstance(names, list):
        return tuple(map(str, names))
    return names_in_feature(feature.get("feature"))


class _MemoryTable(Table):
    """A table that is in memory already."""

    def __init__(self, columns: Sequence[tuple[str, Sequence[Any]]], origin: str) -> None:
        super().__init__([name for name, _ in columns], origin)
        self._columns = dict(columns)

    def _values(self, name: str) -> Iterator[Any]:
        return iter(self._columns[name])


class _ParquetTable(Table):
    """A Parquet file, of which columns are read in batches."""

    def __init__(self, path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        self._path = path
        self._errors = (pyarrow.ArrowException, ValueError)
        with self._sound():
            self._file = pyarrow.parquet.ParquetFile(path)
            self._schema = self._file.schema_arrow
        super().__init__(self._schema.names, str(path))

    def may_hold_text(self, name: str) -> bool:
        """Whether a column holds strings, or bytes that may be UTF-8."""
        import pyarrow.types as kinds

        kind = self._schema.field(self._schema.names.index(name)).type
        kind = kind.value_type if kinds.is_dictionary(kind) else kind
        tests = (kinds.is_string, kinds.is_large_string, kinds.is_binary, kinds.is_large_binary)
        return any(test(kind) for test in tests)

    def class_names(self, name: str) -> tuple[str, ...]:
        """Return the names that the datasets library has written beside the columns."""
        written = (self._schema.metadata or {}).get(b"huggingface", b"{}")
        try:
            return names_in_feature(json.loads(written)["info"]["features"][name])
        except (ValueError, LookupError, TypeError, RecursionError):  # of another tool
            return ()

    def _values(self, name: str) -> Iterator[Any]:
        with self._sound():
            for batch in self._file.iter_batches(_ROWS_AT_ONCE, columns=[name]):
                yield from batch.column(0).to_pylist()

    @contextlib.contextmanager
    def _sound(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise CalibrationError(f"{self._path} is not a sound Parquet file: {error}.") from error
        except OSError as error:
            raise _unreadable(self._path, error) from error


class _HubTable(Table):
    """A data set of the hub, which lies on the disk."""

    def __init__(self, loaded: Any, origin: str) -> None:
        super().__init__(loaded.column_names, origin)
        self._loaded = loaded.with_format(None)

    def class_names(self, name: str) -> tuple[str, ...]:
        """Return the names that the data set's features declare."""
        return names_in_feature(self._loaded.features.to_dict().get(name))

    def _values(self, name: str) -> Iterator[Any]:
        for batch in self._loaded.select_columns([name]).iter(_ROWS_AT_ONCE):
            yield from batch[name]


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CalibrationError(
            f"{path} is not UTF-8: byte {error.start}, in line {line}, cannot be decoded; convert the file to UTF-8."
        ) from error
    if not text.strip():
        raise CalibrationError(f"{path} is empty: it holds no text.")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise CalibrationError(
            f"{path} holds a NUL character in line {line}, as UTF-16 and binary files do: convert the file to UTF-8."
        )
    return text


def _unreadable(path: Path, error: OSError) -> CalibrationError:
    return CalibrationError(f"{path} cannot be read: {error.strerror or error}.")


def _read_delimited(text: str, path: Path) -> Table:
    columns: list[tuple[str, list[Any]]] = []
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        reader = _reader(text, path)
        columns = [(name, []) for name in next(reader, [])]
        for row in reader:
            if not row:
                continue
            if len(row) != len(columns):
                raise CalibrationError(
                    f"{path} has {len(row)} fields in line {reader.line_num}, but its header names {len(columns)}."
                )
            for (_, values), value in zip(columns, row, strict=True):
                values.append(value)
    except csv.Error as error:
        raise CalibrationError(f"{path} is not a sound {path.suffix[1:].upper()} file: {error}.") from error
    finally:
        csv.field_size_limit(before)
    return _MemoryTable(columns, str(path))


def _reader(text: str, path: Path) -> Any:
    """Return a reader with the separator that the header shows.

    A ``.csv`` file whose header has semicolons and no comma is read with semicolons, as spreadsheets write it where
    the comma is the decimal point.

    Raises:
        CalibrationError: the header is a single name with another separator in it.

    """
    tabs = path.suffix == ".tsv"

    def open_with(delimiter: str) -> Any:
        lines = io.StringIO(text, newline="")
        if tabs:
            return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return csv.reader(lines, delimiter=delimiter, strict=True)

    usual = "\t" if tabs else ","
    header: list[str] = next(open_with(usual), [])
    found = next((mark for mark in ";\t|," if len(header) == 1 and mark in header[0]), None)
    if found == ";" and not tabs:
        return open_with(found)
    if found:
        raise CalibrationError(
            f"{path} has a single column, named {header[0][:80]!r}: if {_SEPARATORS[found]} separate its columns, "
            f"{_REMEDIES[found] if not tabs else 'write them with tabs, or name the file .csv if they are commas'}."
        )
    return open_with(usual)


_SEPARATORS: Mapping[str, str] = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ",": "commas"}
_REMEDIES: Mapping[str, str] = {"\t": "name it .tsv", "|": "write it with commas"}


def _read_json_lines(text: str, path: Path) -> Table:
    rows: list[dict[str, Any]] = []
    repaired: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CalibrationError(f"{path} is not JSON in line {number}: {error}.") from error
        if not isinstance(row, dict):
            raise CalibrationError(f"{path} has no JSON object in line {number}.")
        if _SURROGATE.search(line):
            whole = _without_halves(row)
            if whole != row:
                repaired.append(number)
            row = whole
        rows.append(row)
    if repaired:
        logger.warning(
            "%s has half of a surrogate pair (half an emoji, for example) in %d line(s), first in line %d: it is "
            "replaced by U+FFFD.",
            path,
            len(repaired),
            repaired[0],
        )
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _MemoryTable([(name, [row.get(name) for row in rows]) for name in names], str(path))


def _without_halves(value: Any) -> Any:
    """Return a JSON value with U+FFFD in place of surrogates without their other half, which are no characters."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_halves(x) for x in value]
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(x) for key, x in value.items()}
    return value
