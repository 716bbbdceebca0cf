"""Recipes, gates, texts and tables that are damaged, or cost more than they should."""

import json
from pathlib import Path
from typing import Any

from break_in_attempts.checks import cheap, clean, no_crash, refused
from break_in_attempts.scene import QUICK, Kind, Scene, each, expect

_PRUNING = (*QUICK[:4], *QUICK[8:])
_NESTS = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}, *a{n - 1}]}}" for n in range(1, 30))]
)
_LISTS = (
    "seed: [" + ", ".join(["&a0 [x, x]", *(f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]) + "]"
)
_YAML: dict[str, str] = {
    "a bomb of merges": _NESTS,
    "a bomb of aliases": _LISTS,
    "itself": "seed: &a [*a]",
    "3,000 lists": "seed: " + "[" * 3000,
    "5,000 digits": "seed: " + "1" * 5000,
    "a date that is none": "seed: 2001-02-30",
    "a tab": "seed:\t1\n\tsamples: 2",
    "a null byte": "seed: 1\0",
    "twice a key": "seed: 1\nseed: 2",
    "an unknown key": "sede: 1",
    "two documents": "seed: 1\n---\nseed: 2",
    "a list": "- seed",
    "a text": "seed",
    "a number": "3",
    "a complex key": "? [a]\n: 1",
    "a directive": "%YAML 9.9\n---\nseed: 1",
    "a merge of a number": "<<: 3",
    "a permission": "allow_pickle: 'yes please'",
}
_BINARY = {"not UTF-8": b"seed: \xff", "UTF-16": "seed: 1".encode("utf-16"), "half an emoji": b"seed: \xed\xa0\x80"}


def yaml_file(scene: Scene, name: str, option: str) -> None:
    """A recipe or a file of gates that is none, or unfolds."""
    path = scene.folder / "file.yaml"
    path.write_bytes(_BINARY[name] if name in _BINARY else _YAML[name].encode())
    command = ("prune-and-build", scene.made.classifier, "-o", scene.out, "--calibration", "nowhere.txt", option, path)
    ended = scene.run(*command)
    refused(ended)
    cheap(ended, 10, 400, scene.base_mib)
    expect(len(ended.err) < 3000, "the message is endless")


def _texts(folder: Path, name: str) -> Path:
    good = [f"a good film {n}" for n in range(200)]
    rows: dict[str, tuple[str, bytes]] = {
        "half an emoji": ("jsonl", b"\n".join(json.dumps({"text": x + " \ud83d"}).encode() for x in good)),
        "a broken line": ("jsonl", b"\n".join([*(json.dumps({"text": x}).encode() for x in good), b'{"text": '])),
        "a line that is a list": ("jsonl", b"[1]\n" * 50),
        "texts that are numbers": ("jsonl", b'{"text": 1}\n' * 50),
        "texts that are null": ("jsonl", b'{"text": null}\n' * 50),
        "nests": ("jsonl", b'{"text": ' + b"[" * 50_000),
        "a key twice": ("jsonl", b'{"text": "a", "text": "b"}\n' * 50),
        "a column twice": ("csv", b"text,text\n" + b"a good film,b\n" * 200),
        "ragged rows": ("csv", b"text,label\n" + b"a good film,b,c,d\n" * 50 + b"x\n" * 50),
        "no header": ("csv", b"a good film,b\n" * 200),
        "an open quote": ("csv", b'text\n"a good film\n' * 50),
        "a null byte": ("csv", b"text\n" + b"a good\0film\n" * 200),
        "Latin-1": ("csv", b"text\n" + b"a caf\xe9\n" * 200),
        "a byte order mark": ("csv", b"\xef\xbb\xbftext\n" + b"a good film\n" * 200),
        "a field of a megabyte": ("csv", b"text\n" + b"a good film\n" * 200 + b"good " * 250_000 + b"\n"),
        "an empty file": ("csv", b""),
        "a header alone": ("tsv", b"text\tlabel\n"),
        "line separators": ("txt", "\n".join(x + "\u2028half\x85a\x0cb" for x in good).encode()),
        "not UTF-8": ("txt", b"\xff\xfe\n" * 200),
        "UTF-16": ("txt", "\n".join(good).encode("utf-16")),
        "empty lines": ("txt", b"\n\n  \n" * 200),
        "a text of a megabyte": ("txt", "\n".join(good).encode() + b"\n" + b"good " * 200_000),
        "control characters": ("txt", "\n".join(x + "\x00\x1b[2J" for x in good).encode()),
        "not Parquet": ("parquet", b"PAR1" + b"\x00" * 100 + b"PAR1"),
        "an empty Parquet": ("parquet", b""),
        "not a file that is known": ("xyz", b"a good film\n"),
        "a pickle": ("pkl", b"\x80\x04K\x01."),
    }  # fmt: skip
    ending, content = rows[name]
    path = folder / f"texts.{ending}"
    path.write_bytes(content)
    return path


_TEXTS = (
    "half an emoji", "a broken line", "a line that is a list", "texts that are numbers", "texts that are null", "nests",
    "a key twice", "a column twice", "ragged rows", "no header", "an open quote", "a null byte", "Latin-1",
    "a byte order mark", "a field of a megabyte", "an empty file", "a header alone", "line separators", "not UTF-8",
    "UTF-16",
    "empty lines", "a text of a megabyte", "control characters", "not Parquet", "an empty Parquet",
    "not a file that is known", "a pickle",
)  # fmt: skip


def texts(scene: Scene, name: str) -> None:
    """Texts that are none: pruned with, or refused with one sentence; at no cost."""
    path = _texts(scene.folder, name)
    ended = scene.run("prune", scene.made.classifier, "-o", scene.out, "--calibration", path, *_PRUNING)
    refused(ended, codes=(0, 2))
    cheap(ended, 60, 700, scene.base_mib)


def lines(scene: Scene, separator: str) -> None:
    """A line of a .txt file ends at a newline, and nowhere else: as many texts as with a word in its place."""
    found = []
    for number, middle in enumerate((separator, "the")):
        path, output = scene.folder / f"texts{number}.txt", scene.folder / f"out{number}"
        text = "\n".join(f"good {middle} bad film story {n}" for n in range(100))
        path.write_text(text, encoding="utf-8", newline="")
        command = ("prune", scene.made.classifier, "-o", output, "--calibration", path, "--samples", 1000, *QUICK[2:4])
        clean(scene.run(*command, "--threads", 1))
        found.append(json.loads((output / "plan.json").read_text())["calibration"]["texts"])
    expect(found[0] == found[1], f"{found[0]} texts, where {found[1]} are right")


def parquet(scene: Scene, what: str) -> None:
    """Columns that nobody reads, or whose types are odd, cost nothing."""
    import pyarrow
    from pyarrow import parquet as files

    good = [f"a good film {n}" for n in range(200)]
    columns: dict[str, Any] = {"text": good}
    match what:
        case "an unused column that expands":
            columns["image"] = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 200), ["x" * 4_000_000])
        case "texts as bytes":
            columns = {"text": [x.encode() for x in good]}
        case "texts as lists":
            columns = {"text": [[x] for x in good]}
        case "texts as a dictionary":
            columns = {"text": pyarrow.array(good).dictionary_encode()}
        case "no column of texts":
            columns = {"x": list(range(200))}
        case "a column twice":
            table = pyarrow.table([good, good], names=["text", "text"])
        case "metadata that is none":
            table = pyarrow.table(columns).replace_schema_metadata({b"huggingface": b"{", b"pandas": b"\xff"})
    if what not in ("a column twice", "metadata that is none"):
        table = pyarrow.table(columns)
    path = scene.folder / "texts.parquet"
    files.write_table(table, path)
    ended = scene.run("prune", scene.made.classifier, "-o", scene.out, "--calibration", path, *_PRUNING)
    refused(ended, codes=(0, 2))
    cheap(ended, 60, 700, scene.base_mib)


def tables(scene: Scene, option: str, content: str) -> None:
    """Latency tables and sensitivity curves that are none."""
    path = scene.folder / "file.json"
    path.write_text(content)
    command = (
        "prune-and-build",
        scene.made.classifier,
        "-o",
        scene.out,
        *scene.texts,
        *QUICK,
        "--target-speedup",
        "1.2",
    )
    scene.refuse((*command, option, path))


def names(scene: Scene, option: str, name: str) -> None:
    """Names of inputs that lead nowhere, or to no file."""
    command = ("prune-and-build", scene.made.classifier, "-o", scene.out, *QUICK)
    if option != "--calibration":
        command = (*command, *scene.texts)
    no_crash(scene.run(*command, option, name))
    expect(not scene.out.exists() or (scene.out / "manifest.json").exists(), "an unfinished output")


_JSON = {
    "empty": "",
    "a list": "[]",
    "null": "null",
    "an object": "{}",
    "deep": "[" * 50_000,
    "nan": '{"version": NaN}',
}
KINDS = (
    Kind(
        "recipes and gates that are none",
        "one sentence, at no cost",
        each(
            yaml_file,
            {
                f"{option[2:]}: {name}": (name, option)
                for option in ("--recipe", "--gates")
                for name in (*_YAML, *_BINARY)
            },
        ),
    ),
    Kind("texts that are none", "one sentence, or pruned with", each(texts, _TEXTS)),
    Kind(
        "characters that are taken for ends of lines",
        "they are none",
        each(lines, {f"U+{ord(x):04X}": (x,) for x in "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"}),
    ),
    Kind(
        "odd columns of Parquet",
        "at no cost",
        each(
            parquet,
            (
                "an unused column that expands",
                "texts as bytes",
                "texts as lists",
                "texts as a dictionary",
                "no column of texts",
                "a column twice",
                "metadata that is none",
            ),
        ),
    ),
    Kind(
        "tables that are none",
        "one sentence",
        each(
            tables,
            {
                f"{option} {name}": (option, text)
                for option in ("--latency-table", "--sensitivity")
                for name, text in _JSON.items()
            },
        ),
    ),
    Kind(
        "names of inputs that are none",
        "one sentence",
        each(
            names,
            {
                f"{option} {name or 'nothing'}": (option, name)
                for option in ("--calibration", "--evaluation", "--recipe", "--gates")
                for name in (
                    "",
                    "nowhere.txt",
                    "/dev/null",
                    "..",
                    "x" * 300,
                    "~nobody/x.txt",
                    "http://127.0.0.1:9/x.txt",
                    "a/b@c:d",
                )
            },
        ),
    ),
)
