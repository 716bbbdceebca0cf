from collections.abc import Callable
from pathlib import Path

from transformers import AutoTokenizer

from pruning.calibration.batches import Counting, distinct_inputs, make_batches
from pruning.calibration.examples import Example


def test_batches_sort_pad_and_cut(classifier: Path, make_sentences: Callable[..., list[str]]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    texts = make_sentences(50, length=30)
    batches = make_batches(tokenizer, [Example(text) for text in texts], max_tokens=16, batch_size=8)
    rows = [row for batch in batches for row in batch.rows]
    assert sorted(rows) == list(range(50))
    lengths = [int(n) for batch in batches for n in batch.attention_mask.sum(1)]
    assert lengths == sorted(lengths)
    assert max(lengths) == 16
    for batch in batches:
        assert batch.inputs["input_ids"].shape[1] == batch.attention_mask.sum(1).max()
        assert batch.tokens == int(batch.attention_mask.sum())
        for i, row in enumerate(batch.rows):
            real = batch.inputs["input_ids"][i][batch.attention_mask[i].bool()].tolist()
            assert real == tokenizer(texts[row], truncation=True, max_length=16)["input_ids"]
            padding = batch.inputs["input_ids"][i][~batch.attention_mask[i].bool()]
            assert (padding == tokenizer.pad_token_id).all()


def test_texts_that_the_tokenizer_reads_alike_are_one(classifier: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    texts = ["good film", "GOOD film", " good  film ", "good film story plot", "good film story bad", "bad film"]
    assert distinct_inputs(tokenizer, [Example(text) for text in texts], max_tokens=64) == 4
    assert distinct_inputs(tokenizer, [Example(text) for text in texts], max_tokens=5) == 3  # [CLS] good film story
    pairs = [Example("good", "film"), Example("good", "FILM"), Example("film", "good")]
    assert distinct_inputs(tokenizer, pairs, max_tokens=64) == 2


def test_pairs_have_two_token_types(classifier: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    (batch,) = make_batches(tokenizer, [Example("good film", "bad story plot"), Example("a")], max_tokens=16)
    long = batch.rows.index(0)
    # [CLS] good film [SEP] | bad story plot [SEP]
    assert batch.inputs["token_type_ids"][long].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_padding_and_cutting_baked_into_a_tokenizer_file_are_not_followed(minilm: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm)  # its tokenizer.json pads and cuts to 128
    examples = [Example("short one"), Example("word " * 200)]
    (batch,) = make_batches(tokenizer, examples, max_tokens=150)
    assert batch.attention_mask.sum(1).tolist() == [4, 150]


def test_special_tokens_count_unless_asked_otherwise(classifier: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    examples = [Example("good film"), Example("a")]
    (batch,) = make_batches(tokenizer, examples, max_tokens=16)
    assert batch.counted.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    (batch,) = make_batches(tokenizer, examples, max_tokens=16, counting=Counting(special_tokens=False))
    assert batch.rows == (1, 0)
    assert batch.counted.tolist() == [[0, 1, 0, 0], [0, 1, 1, 0]]


def masked(tokenizer: object, texts: list[str], seed: int, batch_size: int) -> dict[int, list[int]]:
    batches = make_batches(tokenizer, [Example(x) for x in texts], 24, batch_size, Counting(mask_seed=seed))
    return {
        row: batch.inputs["input_ids"][i][batch.attention_mask[i].bool()].tolist()
        for batch in batches
        for i, row in enumerate(batch.rows)
    }


def test_masks_are_a_seventh_of_the_words_and_follow_from_the_seed(
    classifier: Path, make_sentences: Callable[..., list[str]]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    texts = make_sentences(60, length=30)
    whole = {row: tokenizer(text, truncation=True, max_length=24)["input_ids"] for row, text in enumerate(texts)}
    found = masked(tokenizer, texts, 3, 8)
    for row, ids in found.items():
        hidden = [place for place, token in enumerate(ids) if token == tokenizer.mask_token_id]
        assert len(hidden) == max(1, round(0.15 * (len(ids) - 2)))
        assert not {0, len(ids) - 1} & set(hidden)
        assert all(a == b for place, (a, b) in enumerate(zip(ids, whole[row], strict=True)) if place not in hidden)
    assert found == masked(tokenizer, texts, 3, 60)  # whatever the batches are
    assert found != masked(tokenizer, texts, 4, 8)
    (batch,) = make_batches(tokenizer, [Example("a good film")], 24, counting=Counting(mask_seed=0))
    assert batch.counted.tolist() == (batch.inputs["input_ids"] == tokenizer.mask_token_id).int().tolist()
    assert batch.tokens == 5
