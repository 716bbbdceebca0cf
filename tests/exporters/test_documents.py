"""JSON documents: what is refused, and that a file is written whole."""

from pathlib import Path
from typing import Literal

import pytest

from exporters.documents import Document
from exporters.errors import TableError


class Weather(Document):
    noun, error, remedy, indent = "weather report", TableError, "measure it again", 1
    format: Literal["toy-weather"] = "toy-weather"
    version: Literal[3] = 3
    degrees: float


def test_what_is_written_is_read(tmp_path: Path) -> None:
    Weather(degrees=1.5).write(tmp_path / "weather.json")
    assert (
        tmp_path / "weather.json"
    ).read_text() == '{\n "format": "toy-weather",\n "version": 3,\n "degrees": 1.5\n}\n'
    assert Weather.read(tmp_path / "weather.json") == Weather(degrees=1.5)
    assert [path.name for path in tmp_path.iterdir()] == ["weather.json"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"degrees": 1, "format": "toy-weather", "version": 2}', "version: Input should be 3"),
        (b'{"degrees": 1, "format": "other", "version": 3}', "format: Input should be 'toy-weather'"),
        (b'{"degrees": 1, "wind": 3}', "wind: Extra inputs are not permitted"),
        (b"{}", "degrees: Field required"),
        (b"\xff\xfe{}", "the whole: Invalid JSON"),
    ],
)
def test_what_is_not_valid_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "weather.json"
    path.write_bytes(content)
    with pytest.raises(TableError) as caught:
        Weather.read(path)
    assert str(caught.value).startswith(f"{path} is not a valid weather report: {problem}")
    assert str(caught.value).endswith(": measure it again.")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"weather\.json cannot be read: No such file or directory\."):
        Weather.read(tmp_path / "weather.json")
