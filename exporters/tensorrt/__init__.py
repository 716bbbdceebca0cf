"""From an ONNX file to a TensorRT engine: settings, the build, and the record that lies beside the plan."""

from exporters.tensorrt.build import EngineArtefact, engine_from_onnx
from exporters.tensorrt.engine_record import EngineRecord
from exporters.tensorrt.profiles import OptimizationProfile
from exporters.tensorrt.settings import EngineSettings

__all__ = ["EngineArtefact", "EngineRecord", "EngineSettings", "OptimizationProfile", "engine_from_onnx"]
