import logging
from pathlib import Path

import pytest
import transformers
from tiny_models import TINY_FAMILIES, WORDS
from tokenizers.pre_tokenizers import ByteLevel

from pruning.calibration.coverage import Coverage, check_coverage, measure_coverage
from pruning.calibration.examples import Example
from pruning.errors import CalibrationError


@pytest.mark.parametrize("family", TINY_FAMILIES)
@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("a good film", 0.0),
        ("good film zz", 0.2),  # 2 of 10 letters
        ("фильм хорош", 1.0),
        ("很好的电影", 1.0),
        ("   ", 0.0),
    ],
)
def test_the_share_of_characters_that_a_tokenizer_does_not_know(family: str, text: str, unknown: float) -> None:
    """Whether it reads them as its unknown token, for a word or for all between two spaces, or leaves them out."""
    tokenizer = TINY_FAMILIES[family].tokenizer()
    assert measure_coverage(tokenizer, [Example(text)], 64) == Coverage(pytest.approx(unknown), 0.0)


def test_both_texts_of_a_pair_count_and_what_is_cut_off_does_not(classifier: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(classifier)
    assert measure_coverage(tokenizer, [Example("good", "zzzz")], 64).unknown == 0.5
    assert measure_coverage(tokenizer, [Example("good film zzzz")], 2).unknown == 0
    assert measure_coverage(tokenizer, [], 64) == Coverage(0.0, 0.0)


def test_scripts_that_a_byte_level_vocabulary_lacks_are_split() -> None:
    letters = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = transformers.RobertaTokenizer(vocab=letters | {"<unk>": 300, "<mask>": 301}, merges=[])
    assert measure_coverage(tokenizer, [Example("фи a")], 64) == Coverage(0.0, pytest.approx(2 / 3))


def test_what_is_said_of_unknown_texts(classifier: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(classifier)
    known = [Example(" ".join(WORDS))]
    check_coverage(tokenizer, known, 64, "calibration")
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        check_coverage(tokenizer, [*known, Example("z" * 10)], 64, "calibration")
    assert "does not know 5." in caplog.text
    assert "calibration texts" in caplog.text
    with pytest.raises(CalibrationError, match=r"does not know 98% of the held-out texts' characters, so that results"):
        check_coverage(tokenizer, [*known, Example("z" * 10_000)], 64, "held-out")
