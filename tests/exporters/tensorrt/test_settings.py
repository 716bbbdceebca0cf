from typing import Any

import pytest
from pydantic import ValidationError

from exporters.errors import EngineError, ShapeError
from exporters.spec import Shape
from exporters.tensorrt.profiles import OptimizationProfile
from exporters.tensorrt.settings import EngineSettings

LONG = OptimizationProfile(Shape(1, 1), Shape(1, 1), Shape(1, 65))


def test_nothing_is_on_unless_asked_for() -> None:
    assert EngineSettings().builder_flags == ()
    every = EngineSettings(tf32=True, refit=True, strip_plan=True, version_compatible=True, weight_streaming=True)
    assert every.builder_flags == ("TF32", "REFIT", "STRIP_PLAN", "VERSION_COMPATIBLE", "WEIGHT_STREAMING")


def test_settings_go_through_json() -> None:
    settings = EngineSettings(profiles=(LONG,), workspace_mib=64)
    assert EngineSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compute_capabilities": ("8.6",)}, "compute_capabilities .8.6. are for tensorrt_rtx"),
        ({"bindings": "tensorrt_rtx", "compute_capabilities": ("sm86",)}, "'sm86' is not a compute capability"),
        ({"bindings": "tensorrt_rtx", "hardware_compatibility": "ampere_plus"}, "hardware_compatibility is for"),
        (
            {"bindings": "tensorrt_rtx", "compute_capabilities": ("8.6", "12.0"), "strip_plan": True},
            "strips weights for one compute capability at most",
        ),
    ],
)
def test_settings_that_exclude_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        EngineSettings(**settings)


@pytest.mark.parametrize(
    "settings", [{"optimization_level": 6}, {"workspace_mib": 0}, {"fp16": True}, {"bindings": "onnx"}]
)
def test_settings_that_are_none(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EngineSettings(**settings)


def test_profiles_are_held_against_the_model() -> None:
    assert EngineSettings().profiles_for(64) == (OptimizationProfile.default(64),)
    assert EngineSettings(profiles=(LONG,)).profiles_for(65) == (LONG,)
    with pytest.raises(ShapeError, match="the model reads at most 64"):
        EngineSettings(profiles=(LONG,)).profiles_for(64)
