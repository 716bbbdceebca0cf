import pytest

from pruning.calibration.docstrings import docstring_examples, sentences_in
from pruning.errors import CalibrationError


def test_only_plain_sentences_are_taken() -> None:
    text = """Return the sum of all the values in the list.

    Call ``f(x)`` to do the thing with it. This sentence is split over
    two lines and is still found in here. Too short. Parameters
    x : int
        the_name of the thing in code is not prose at all.
    """
    assert sentences_in(text) == [
        "Return the sum of all the values in the list.",
        "This sentence is split over two lines and is still found in here.",
    ]


def test_the_same_seed_gives_the_same_texts() -> None:
    first, again, other = docstring_examples(60, 0), docstring_examples(60, 0), docstring_examples(60, 1)
    assert first == again
    assert first != other
    assert len({x.text for x in first}) == 60
    assert all(6 <= len(x.text.split()) <= 40 for x in first)


def test_asking_for_too_many_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pruning.calibration.docstrings.PACKAGES", ())
    with pytest.raises(CalibrationError, match=r"hold \d+ English sentences, but 10000000 are asked for"):
        docstring_examples(10_000_000, 0)
