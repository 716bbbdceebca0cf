import numpy as np
import pytest

from exporters.errors import ShapeError
from exporters.inputs import Padding, synthetic_inputs
from exporters.spec import ModelSpec, Shape, check_shapes

SPEC = ModelSpec(("input_ids", "attention_mask", "token_type_ids"), (), 64, 50, 2, 7, 2)


def test_shapes_are_read_and_written() -> None:
    assert Shape.parse(" 8x128 ") == Shape(8, 128)
    assert str(Shape(3, 17)) == "3x17"


@pytest.mark.parametrize("text", ["", "8", "8x", "0x5", "5x0", "-1x3", "8x128x2", "axb", "1.5x3"])
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(ShapeError, match="is not a shape"):
        Shape.parse(text)


def test_shapes_have_to_fit() -> None:
    check_shapes((Shape(1, 64),), 64)
    with pytest.raises(ShapeError, match="1x65 has 65 tokens, but the model reads at most 64"):
        check_shapes((Shape(1, 5), Shape(1, 65)), 64)


@pytest.mark.parametrize("shape", [Shape(1, 1), Shape(3, 17), Shape(4, 64)])
@pytest.mark.parametrize("padding", list(Padding))
def test_inputs_are_what_they_say(shape: Shape, padding: Padding) -> None:
    made = synthetic_inputs(SPEC, shape, padding)
    again = synthetic_inputs(SPEC, shape, padding)
    assert list(made) == list(SPEC.inputs)
    mask = made["attention_mask"]
    lengths = mask.sum(1)
    for name, array in made.items():
        assert array.shape == (shape.batch, shape.sequence)
        assert array.dtype == np.int64
        assert (array == again[name]).all()
    assert (np.sort(mask, axis=1)[:, ::-1] == mask).all()  # padding on the right only
    assert (made["input_ids"][mask == 0] == SPEC.pad_token_id).all()
    assert made["input_ids"].max() < SPEC.vocabulary
    if padding is Padding.NONE:
        assert (lengths == shape.sequence).all()
    elif padding is Padding.ONE_TOKEN:
        assert (lengths == 1).all()
    elif shape.sequence > 1:
        assert 1 <= lengths.min() < shape.sequence
