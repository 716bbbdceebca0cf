import pytest

from exporters.errors import ShapeError
from exporters.spec import Shape
from exporters.tensorrt.profiles import OptimizationProfile

PROFILE = OptimizationProfile(Shape(1, 1), Shape(8, 128), Shape(32, 512))


@pytest.mark.parametrize(
    "text", ["min=1x1,opt=8x128,max=32x512", " max=32x512, min = 1x1 ,opt=8×128", "opt=8x128,min=1x1,max=32x512"]
)
def test_profiles_are_read_in_any_order(text: str) -> None:
    assert OptimizationProfile.parse(text) == PROFILE
    assert OptimizationProfile.parse(str(PROFILE)) == PROFILE


@pytest.mark.parametrize(
    "text", ["", "1x1,8x128,32x512", "min=1x1,opt=8x128", "min=1x1,min=1x1,opt=1x1,max=2x2", "a=b"]
)
def test_what_is_no_profile_is_named(text: str) -> None:
    with pytest.raises(ShapeError, match="is not a profile: name min, opt and max once each, as in min=1x1,opt="):
        OptimizationProfile.parse(text)


def test_a_malformed_shape_in_a_profile() -> None:
    with pytest.raises(ShapeError, match="'8by128' is not a shape"):
        OptimizationProfile.parse("min=1x1,opt=8by128,max=32x512")


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("min=9x1,opt=8x128,max=32x512", "batch sizes min 9, opt 8, max 32"),
        ("min=1x1,opt=33x128,max=32x512", "batch sizes min 1, opt 33, max 32"),
        ("min=1x129,opt=8x128,max=32x512", "sequence sizes min 129, opt 128, max 512"),
        ("min=1x1,opt=8x128,max=32x64", "sequence sizes min 1, opt 128, max 64"),
    ],
)
def test_sizes_must_not_shrink(text: str, axis: str) -> None:
    with pytest.raises(ShapeError, match=axis):
        OptimizationProfile.parse(text)


def test_a_profile_longer_than_the_model_reads() -> None:
    PROFILE.check(512)
    with pytest.raises(ShapeError, match="32x512 has 512 tokens, but the model reads at most 511"):
        PROFILE.check(511)


def test_the_default_fits_every_model() -> None:
    assert str(OptimizationProfile.default(512)) == "min=1x1,opt=8x128,max=32x512"
    assert str(OptimizationProfile.default(64)) == "min=1x1,opt=8x64,max=32x64"


def test_which_shapes_lie_within() -> None:
    assert PROFILE.admits(Shape(1, 1))
    assert PROFILE.admits(Shape(32, 512))
    assert not PROFILE.admits(Shape(33, 1))
    assert not PROFILE.admits(Shape(1, 513))
