import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.calibration.examples import (
    Columns,
    Example,
    examples_sha256,
    flatten_pairs,
    read_examples,
    split_examples,
)
from pruning.errors import CalibrationError


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_text_file_has_a_text_a_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "one two\n\n  drei vier ü \r\n")
    assert read_examples(path) == [Example("one two"), Example("drei vier ü")]


def test_tsv_is_unquoted_and_its_columns_are_guessed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", 'sentence1\tsentence2\tlabel\nthe " odd\tone, two\t1\nx\ty\t0\n')
    assert read_examples(path) == [Example('the " odd', "one, two", 1), Example("x", "y", 0)]


def test_csv_is_quoted(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'Text,Stars\n"a, ""b""\nc",2.5\n')
    assert read_examples(path) == [Example('a, "b"\nc', None, 2.5)]


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"question": "who", "context": "me", "labels": [1, 0]}, {"question": "why", "context": None}]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    assert read_examples(path) == [Example("who", "me", (1.0, 0.0)), Example("why", "", None)]


def test_parquet(tmp_path: Path) -> None:
    table = pyarrow.table({"id": [1, 2], "body": ["some text", "more text"], "label": ["pos", "neg"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert read_examples(tmp_path / "a.parquet") == [
        Example("some text", None, "pos"),
        Example("more text", None, "neg"),
    ]


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "sentence1,sentence2,mark\na b,c d,3\n")
    assert read_examples(path, Columns(text="sentence2")) == [Example("c d")]
    assert read_examples(path, Columns(text="sentence2", pair="sentence1", label="mark")) == [Example("c d", "a b", 3)]


def test_a_single_column_of_texts_needs_no_name(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "n,odd name\n1,some words here\n")
    assert read_examples(path) == [Example("some words here")]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.txt", b"", "a.txt is empty: it holds no text"),
        ("a.txt", b"\n \n", "a.txt is empty: it holds no text"),
        ("a.tsv", b"text\tlabel\n", "holds no text: it has no rows"),
        ("a.txt", b"ok\nbad \xff\n", r"is not UTF-8: byte 7, in line 2"),
        ("a.csv", b"x,y\n1,2\n", r"no column with a usual name for texts \(its columns: x, y\)"),
        ("a.csv", b"a b,c d\nsome text,more text\n", "no column with a usual name"),
        ("a.csv", b"text,label\nonly one\n", "has 1 fields in line 2, but its header names 2"),
        ("a.csv", b'text\n"open\n', "is not a sound CSV file"),
        ("a.tsv", b"", "a.tsv is empty: it holds no text"),
        ("a.tsv", b"\n\n", "a.tsv is empty"),
        ("a.csv", b'text\n""\n" "\n', "holds no text: every row is empty"),
        ("a.jsonl", b'{"text": "a"}\n{"text":\n', "is not JSON in line 2"),
        ("a.jsonl", b"[1]\n", "has no JSON object in line 1"),
        ("a.parquet", b"PAR1 nonsense", "is not a sound Parquet file"),
        ("a.xlsx", b"", r"of a kind that is not read \(\.xlsx\)"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CalibrationError, match=problem) as caught:
        read_examples(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_files_and_columns(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"nowhere\.txt does not exist"):
        read_examples(tmp_path / "nowhere.txt")
    path = write(tmp_path, "a.csv", "text\na b\n")
    with pytest.raises(CalibrationError, match="has no column 'body': its columns are text"):
        read_examples(path, Columns(text="body"))


def test_a_hub_name_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CalibrationError, match="owner/nothing:x@test is neither a file here nor a data set"):
        read_examples("owner/nothing:x@test")


@given(st.integers(2, 60), st.integers(1, 40), st.integers(1, 30), st.integers(0, 5))
def test_split_is_disjoint_and_repeatable(rows: int, samples: int, held_out: int, seed: int) -> None:
    examples = [Example(f"text {i % (rows // 2 + 1)}") for i in range(rows)]
    unique = len(set(examples))
    if unique < 2:
        return
    first, kept_back = split_examples(examples, samples, held_out, seed)
    assert not set(first) & set(kept_back)
    assert len(kept_back) == min(held_out, max(1, unique // 5))
    assert len(first) == min(samples, unique - len(kept_back))
    assert (first, kept_back) == split_examples(examples, samples, held_out, seed)


def test_split_needs_two_texts() -> None:
    with pytest.raises(CalibrationError, match="a single text"):
        split_examples([Example("a")] * 3, 10, 10, 0)


def test_pairs_are_flattened_without_repeats() -> None:
    assert flatten_pairs([Example("a", "b", 1), Example("b", "c", 2)]) == [
        Example("a"),
        Example("b"),
        Example("c"),
    ]


def test_hash_sees_order_labels_and_pairs() -> None:
    a, b = Example("a"), Example("b")
    hashes = {examples_sha256(x) for x in ([a, b], [b, a], [Example("a", None, 1), b], [Example("a", "b")], [])}
    assert len(hashes) == 5


def test_words_make_a_text_and_their_labels_stay(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "tokens": ["EU", "rejects", "it"], "pos_tags": [0, 1, 2], "ner_tags": [3, 0, 0]},
        {"id": 2, "tokens": ["a"], "pos_tags": [5], "ner_tags": [7]},
        {"id": 3, "tokens": [], "pos_tags": [], "ner_tags": []},
    ]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    first, second = read_examples(path)
    assert first == Example("EU rejects it", None, (3.0, 0.0, 0.0), ("EU", "rejects", "it"))
    assert second == Example("a", None, (7.0,), ("a",))
    named = read_examples(path, Columns(label="pos_tags"))
    assert named[0].label == (0.0, 1.0, 2.0)
    assert examples_sha256([first]) != examples_sha256([Example(first.text, None, first.label)])
    names = write(tmp_path, "b.jsonl", json.dumps({"words": ["a", "film"], "labels": ["O", "B-X"], "text": "a film"}))
    assert read_examples(names) == [Example("a film", None, ("O", "B-X"), ("a", "film"))]
    assert read_examples(names, Columns(text="text"))[0].words is None


def test_a_number_in_a_column_called_tokens_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "tokens,text,label\n3,some text here,1\n")
    assert read_examples(path) == [Example("some text here", None, 1)]


def test_answers_are_texts(tmp_path: Path) -> None:
    rows = [
        {"question": "when", "context": "in 1066", "answers": {"text": ["1066", "in 1066"], "answer_start": [3, 0]}},
        {"question": "who", "context": "nobody", "answers": {"text": [], "answer_start": []}},
        {"question": "why", "context": "because", "answers": None},
    ]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert [x.label for x in read_examples(path)] == [("1066", "in 1066"), (), None]
    path = write(tmp_path, "a.csv", "question,context,answer\nwhich,agent 007 it is,007\n")
    assert read_examples(path) == [Example("which", "agent 007 it is", ("007",))]
    path = write(tmp_path, "b.jsonl", json.dumps({"question": "q", "context": "c", "gold": {"text": ["x"]}}))
    assert read_examples(path, Columns(label="gold"))[0].label == ("x",)
