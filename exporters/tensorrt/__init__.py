"""From an ONNX file to a TensorRT engine: settings, the build, and the record that lies beside the plan.

Its names are imported when they are first used, so that the settings can be read without onnx.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporters.tensorrt.build import EngineArtefact, engine_from_onnx
    from exporters.tensorrt.engine_record import EngineRecord
    from exporters.tensorrt.profiles import OptimizationProfile
    from exporters.tensorrt.settings import EngineSettings

_HOMES = {
    "EngineArtefact": "build",
    "EngineRecord": "engine_record",
    "EngineSettings": "settings",
    "OptimizationProfile": "profiles",
    "engine_from_onnx": "build",
}
__all__ = ["EngineArtefact", "EngineRecord", "EngineSettings", "OptimizationProfile", "engine_from_onnx"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
