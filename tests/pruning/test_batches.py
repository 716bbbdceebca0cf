from collections.abc import Callable
from pathlib import Path

from transformers import AutoTokenizer

from pruning.calibration.batches import make_batches
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
