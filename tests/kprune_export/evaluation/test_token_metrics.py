import pytest

from exporters.errors import MeasurementError
from kprune_export.evaluation.token_metrics import entities, entity_f1, marks_entities, token_accuracy


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("O B-PER I-PER O", {("PER", 1, 3)}),
        ("B-PER B-PER I-PER", {("PER", 0, 1), ("PER", 1, 3)}),
        ("B-PER I-LOC I-LOC", {("PER", 0, 1), ("LOC", 1, 3)}),
        ("I-PER I-PER O I-PER", {("PER", 0, 2), ("PER", 3, 4)}),  # as the older IOB scheme writes it
        ("O O", set()),
        ("", set()),
    ],
)
def test_entities_by_hand(labels: str, expected: set[tuple[str, int, int]]) -> None:
    assert entities(labels.split()) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("O B-PER I-PER", True),
        ("B-A", True),
        ("O", False),
        ("NOUN VERB", False),
        ("O B-PER E-PER", False),
        ("O B- I-", False),
    ],
)
def test_the_scheme_is_known_by_the_label_names(labels: str, expected: bool) -> None:
    assert marks_entities(labels.split()) is expected


def test_entity_f1_is_over_all_texts_and_exact_entities() -> None:
    right = [["B-X", "I-X", "O"], ["B-Y", "O"]]  # two entities
    dense = [["B-X", "I-X", "B-Y"], ["O", "O"]]  # two found, one of them right: P 1/2, R 1/2
    pruned = [["B-X", "O", "O"], ["B-Y", "O"]]  # two found, one right: the first is too short
    metric = entity_f1(dense, pruned, right)
    assert (metric.name, metric.dense, metric.pruned, metric.examples) == ("entity_f1", 0.5, 0.5, 2)
    assert entity_f1(right, [["O"] * 3, ["O"] * 2], right).pruned == 0.0
    assert entity_f1([["O"]], [["O"]], [["O"]]).dense == 0.0


def test_token_accuracy() -> None:
    metric = token_accuracy(["a", "b", "c"], ["a", "c", "c"], ["a", "b", "b"])
    assert (metric.dense, metric.pruned, metric.examples) == (pytest.approx(2 / 3), pytest.approx(1 / 3), 3)
    with pytest.raises(MeasurementError, match="No word with a label is left"):
        token_accuracy([], [], [])
