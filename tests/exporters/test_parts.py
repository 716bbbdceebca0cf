"""Finished parts: made once, read exactly, and made again where something else decided them or they are damaged."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from exporters.parts import FinishedParts
from exporters.runners.base import Array


class Times(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: tuple[float, ...]


class Made:
    """Counts how often something was made."""

    def __init__(self) -> None:
        self.count = 0

    def times(self, *seconds: float) -> Callable[[], Times]:
        def make() -> Times:
            self.count += 1
            return Times(seconds=seconds)

        return make

    def arrays(self, **arrays: Array) -> Callable[[], dict[str, Array]]:
        def make() -> dict[str, Array]:
            self.count += 1
            return arrays

        return make

    def files(self, **texts: str) -> Callable[[Path], Times]:
        def write(folder: Path) -> Times:
            self.count += 1
            for name, text in texts.items():
                (folder / name).write_text(text)
            return Times(seconds=())

        return write


@pytest.fixture
def made() -> Made:
    return Made()


def test_records_are_made_once_and_read_exactly(tmp_path: Path, made: Made) -> None:
    awkward = (0.1 + 0.2, 1e-300, 5e-324, 1 / 3)
    first = FinishedParts(tmp_path / "parts", "key").once("model-1", Times, made.times(*awkward))
    again = FinishedParts(tmp_path / "parts", "key").once("model-1", Times, made.times(0.0))
    assert (first, again.seconds, made.count) == (again, awkward, 1)
    assert FinishedParts(tmp_path / "parts", "key").has("model-1")
    FinishedParts(tmp_path / "parts", "other").once("model-1", Times, made.times(2.0))
    assert made.count == 2


def test_nothing_is_kept_without_a_folder(made: Made) -> None:
    parts = FinishedParts()
    for _ in range(2):
        parts.once("a", Times, made.times())
        assert parts.arrays_once("b", made.arrays(x=np.ones(2)))["x"].tolist() == [1, 1]
    assert (made.count, parts.has("a")) == (4, False)
    assert not parts.within("c").has("a")


def test_arrays(tmp_path: Path, made: Made) -> None:
    random = np.random.default_rng(0)
    kept = {"x": random.random((3, 2)), "hits": np.array([True, False]), "none": np.empty((0, 4), np.float32)}
    for _ in range(2):
        found = FinishedParts(tmp_path, "key").arrays_once("batch", made.arrays(**kept))
        assert {name: (x.dtype, x.tolist()) for name, x in found.items()} == {
            name: (x.dtype, x.tolist()) for name, x in kept.items()
        }
    assert FinishedParts(tmp_path, "key").arrays_once("empty", made.arrays()) == {}
    assert made.count == 2


def test_files_are_put_where_they_are_wanted(tmp_path: Path, made: Made) -> None:
    for number in range(2):
        target = tmp_path / f"target-{number}"
        target.mkdir()
        FinishedParts(tmp_path / "parts", "key").files_once("fp32", Times, made.files(a="one", b="two"), target)
        assert {x.name: x.read_text() for x in target.iterdir()} == {"a": "one", "b": "two"}
    assert made.count == 1
    plain = tmp_path / "plain"
    plain.mkdir()
    FinishedParts().files_once("fp32", Times, made.files(a="three"), plain)
    assert (plain / "a").read_text() == "three"


def test_damaged_parts_are_made_again(tmp_path: Path, made: Made) -> None:
    parts = FinishedParts(tmp_path, "key")
    parts.once("times", Times, made.times(1.0))
    parts.arrays_once("arrays", made.arrays(x=np.ones(2)))
    (tmp_path / "target").mkdir()
    parts.files_once("files", Times, made.files(a="one"), tmp_path / "target")
    (tmp_path / "target" / "a").unlink()  # a second name of the file that is kept
    assert made.count == 3
    (tmp_path / "times.json").write_text((tmp_path / "times.json").read_text()[:-10])
    (tmp_path / "arrays.npz").write_bytes((tmp_path / "arrays.npz").read_bytes()[:-10])
    (tmp_path / "files.files" / "a").write_text("on")
    assert not any(map(parts.has, ("times", "arrays", "files")))
    parts.once("times", Times, made.times(1.0))
    assert parts.arrays_once("arrays", made.arrays(x=np.ones(2)))["x"].tolist() == [1, 1]
    parts.files_once("files", Times, made.files(a="one"), tmp_path / "target")
    assert (tmp_path / "target" / "a").read_text() == "one"
    assert made.count == 6


def test_what_fails_half_way_is_no_part(tmp_path: Path, made: Made) -> None:
    def fails(folder: Path) -> Times:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    parts, target = FinishedParts(tmp_path / "parts", "key"), tmp_path / "target"
    target.mkdir()
    with pytest.raises(KeyboardInterrupt):
        parts.files_once("files", Times, fails, target)
    assert not parts.has("files")
    parts.files_once("files", Times, made.files(a="one"), target)
    assert [x.name for x in target.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".hidden", "a b"])
def test_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a part cannot be called"):
        FinishedParts(tmp_path, "key").within(name)
    with pytest.raises(ValueError, match="a part cannot be called"):
        FinishedParts(tmp_path, "key").has(name)
