"""Files of texts as people have them: other separators, names twice, long fields, values that are no texts."""

import csv
import json
import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from pruning.calibration.examples import Columns, Example, examples_sha256, read_examples
from pruning.calibration.tables import _HubTable
from pruning.calibration.values import NamedClass, label_of
from pruning.errors import CalibrationError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    return write(path, "\n".join(map(json.dumps, rows)))


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_lines_end_at_line_feeds_only(mark: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", f"one{mark}text\nanother\r\nthird\rfourth")
    assert [x.text for x in read_examples(path)] == [f"one{mark}text", "another", "third", "fourth"]


def test_a_semicolon_csv_is_read_as_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text;label\ngood, but long;1\n"a ""b""; c";0\n')
    assert read_examples(path) == [Example("good, but long", None, 1), Example('a "b"; c', None, 0)]
    commas = write(tmp_path / "b.csv", 'text,"a;b"\nsome;text,1\n')  # the header has a comma, so that is what parts
    assert read_examples(commas) == [Example("some;text")]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", "text\tlabel\nx\t1\n", r"single column, named 'text\\tlabel': if tabs separate .* name it .tsv"),
        ("a.csv", "text|label\nx|1\n", "if vertical bars separate its columns, write it with commas"),
        ("a.tsv", "text,label\nx,1\n", "if commas separate its columns, write them with tabs, or name the file .csv"),
        ("a.csv", "text;label\nx;1;2\n", "has 3 fields in line 2, but its header names 2"),
        ("a.txt", "a\0b\0\n", "holds a NUL character in line 1, as UTF-16 and binary files do"),
    ],
)
def test_other_separators_and_encodings_are_named(name: str, content: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=problem):
        read_examples(write(tmp_path / name, content))


@pytest.mark.parametrize(("kind", "mark"), [("csv", ","), ("tsv", "\t")])
def test_a_column_that_is_there_twice(kind: str, mark: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", "id,text,label,text,id\n1,a b,0,c d,1\n".replace(",", mark))
    with pytest.raises(CalibrationError, match="names the column 'text' 2 times: rename all but one"):
        read_examples(path)
    path = write(tmp_path / f"b.{kind}", "id,text,id\n1,a b,1\n".replace(",", mark))
    assert read_examples(path) == [Example("a b")]  # nobody asks for the other


def test_a_parquet_column_that_is_there_twice(tmp_path: Path) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["a b"]), pyarrow.array(["c d"])], names=["text", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(CalibrationError, match="names the column 'text' 2 times"):
        read_examples(tmp_path / "a.parquet")


@pytest.mark.parametrize(("kind", "mark"), [("csv", ","), ("tsv", "\t")])
def test_fields_of_any_length(kind: str, mark: str, tmp_path: Path) -> None:
    long = "we order " * 20_000
    before = csv.field_size_limit()
    path = write(tmp_path / f"a.{kind}", f"text{mark}label\n{long}{mark}1\nshort one{mark}0\n")
    assert read_examples(path) == [Example(long.strip(), None, 1), Example("short one", None, 0)]
    assert csv.field_size_limit() == before


def test_half_an_emoji_is_replaced_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ['{"text": "whole \\ud83d\\ude00"}', '{"text": "half \\ud83d", "label": "\\ude00"}', '{"text": "\\\\ud83d"}']
    path = write(tmp_path / "a.jsonl", "\n".join(rows))
    assert read_examples(path) == [
        Example("whole \U0001f600"),
        Example("half \ufffd", None, "\ufffd"),
        Example("\\ud83d"),
    ]
    assert "has half of a surrogate pair (half an emoji, for example) in 1 line(s), first in line 2" in caplog.text


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"text": {"en": "a b", "de": "c d"}}, "'text' of .* holds an object with the keys en, de in row 1"),
        ({"content": [{"role": "user", "content": "a"}]}, "a list of objects with the keys role, content in row 1"),
        ({"text": [["a"], ["b"]]}, "holds a list with another list in it"),
        ({"text": ["a", None]}, "holds a list with a missing word in it"),
        ({"question": "q q", "context": {"title": ["a"]}}, "'context' of .* holds an object with the keys title"),
        ({"text": {}}, "holds an object with no keys"),
        ({"text": dict.fromkeys("abcdefg")}, "with the keys a, b, c, d, e, … in row 1"),
    ],
)
def test_what_is_no_text_is_named(row: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=f"{problem}.*name a column of texts with --text-column") as caught:
        read_examples(write_rows(tmp_path / "a.jsonl", [row]))
    assert "\n" not in str(caught.value)


def test_a_missing_text_is_left_out(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": None}, {"text": math.nan}, {"text": "a b"}, {"label": 1}])
    assert read_examples(path) == [Example("a b")]


def test_bytes_in_parquet_are_utf_8(tmp_path: Path) -> None:
    columns = {"text": [b"na\xc3\xafve", b"a"], "label": [b"pos", b"3"]}
    assert read_examples(write_parquet(tmp_path / "a.parquet", columns)) == [
        Example("naïve", None, "pos"),
        Example("a", None, 3),
    ]
    with pytest.raises(CalibrationError, match=r"bytes that are not UTF-8 .* in row 2"):
        read_examples(write_parquet(tmp_path / "b.parquet", {"text": [b"good", b"\xff\xfe"]}))
    columns = {"image": [b"\x89PNG \xff"], "body": ["some text"]}  # bytes that are no text are none of the texts
    assert read_examples(write_parquet(tmp_path / "c.parquet", columns)) == [Example("some text")]
    words = {"tokens": [[b"a", b"film"]], "ner_tags": [[0, 1]]}
    assert read_examples(write_parquet(tmp_path / "d.parquet", words)) == [
        Example("a film", None, (0.0, 1.0), ("a", "film"))
    ]


def test_unused_columns_are_not_read(tmp_path: Path) -> None:
    """Damage in one is not seen, so neither is its size."""
    path = write_parquet(
        tmp_path / "a.parquet", {"payload": ["x" * 1000 + str(i) for i in range(50)], "text": ["a b"] * 50}
    )
    chunk = pyarrow.parquet.ParquetFile(path).metadata.row_group(0).column(0)
    assert chunk.path_in_schema == "payload"
    content = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    assert read_examples(path) == [Example("a b")] * 50
    with pytest.raises(CalibrationError, match="is not a sound Parquet file|cannot be read"):
        read_examples(path, Columns(text="payload"))


def test_a_hub_data_set_gives_only_the_columns_asked_for() -> None:
    loaded = datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(600)], "label": [0, 1] * 300})
    table = _HubTable(loaded.with_format("numpy"), "owner/name")
    assert table.names == ("text", "label")
    assert list(table.values("text")) == [f"text {i}" for i in range(600)]
    assert list(table.values("label"))[:3] == [0, 1, 0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None), ("nan", None), ("NaN", None), ("", None), (None, None), (" 3 ", 3), ("0.5", 0.5),
        ("inf", "inf"), ("1e999", "1e999"), ("9" * 400, "9" * 400), (10**400, str(10**400)), (math.inf, math.inf),
        (Decimal("0.5"), 0.5), ([1, 0], (1.0, 0.0)), ([1, 10**400], ("1", str(10**400))), (b"pos", "pos"),
        (True, True), (["O", "B-X"], ("O", "B-X")), ({"text": ["x"]}, ("x",)),
    ],
)  # fmt: skip
def test_labels_in_one_form(value: Any, expected: Any) -> None:
    assert label_of(value) == expected


def test_numbers_are_named_where_the_data_set_names_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["O", "B-PER", "I-PER"]
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
            "label": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    rows = {"tokens": [["a", "b"], ["c"]], "ner_tags": [[1, -1], [0]], "label": [1, -1]}
    data = datasets.Dataset.from_dict(rows, features=features)
    path = tmp_path / "data.parquet"
    data.to_parquet(path)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: data)
    for source in (path, "owner/name"):
        tagged = read_examples(source)
        assert [x.label for x in tagged] == [(NamedClass(1, "B-PER"), -100), (NamedClass(0, "O"),)]
        single = read_examples(source, Columns(text="tokens", label="label"))
        assert [x.label for x in single] == [NamedClass(1, "yes"), None]
    assert examples_sha256(tagged) == examples_sha256(read_examples(path))


def test_numbers_stay_numbers_where_nothing_names_them(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["a b"], "label": [1]})
    for metadata in ({}, {"huggingface": "{"}, {"huggingface": '{"info": {"features": [1]}}'}):
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "data.parquet")
        assert read_examples(tmp_path / "data.parquet")[0].label == 1
