"""The bindings: that what is used of them is there, and what is said where they are not."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tensorrt_harness import ROOT, environment, with_bindings
from tensorrt_uses import CHECK, uses_of_bindings

from exporters import tensorrt as package
from exporters.errors import EngineError, MissingRuntimeError
from exporters.tensorrt.bindings import Bindings, BindingsName, is_supported, load_bindings

FILES = [
    file for file in Path(package.__file__).parent.glob("*.py") if file.stem not in ("profiles", "settings", "sidecar")
]
RECEIVERS = {
    "trt": "",
    "kinds": "LayerType",
    "self.module": "",
    "bindings.module": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "layer": "ILayer",
    "boundary": "IAttentionOutputLayer",
    "attention": "IAttention",
    "tensor": "ITensor",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
}
"""What the package's variables hold, as names in the module."""
ONLY_RTX = {"IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability"}
"""What the documentation of TensorRT-RTX has, whose bindings are not on the package index."""
BY_NAME = [
    "IBuilderConfig.builder_optimization_level",
    "IBuilderConfig.profiling_verbosity",
    "IAttentionOutputLayer",
    "IBuilderConfig.hardware_compatibility_level",
    "LayerType.ATTENTION_OUTPUT",
    "HardwareCompatibilityLevel.AMPERE_PLUS",
    "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY",
    "ProfilingVerbosity.NONE",
    "ProfilingVerbosity.LAYER_NAMES_ONLY",
    "ProfilingVerbosity.DETAILED",
    "BuilderFlag.TF32",
    "BuilderFlag.REFIT",
    "BuilderFlag.STRIP_PLAN",
    "BuilderFlag.VERSION_COMPATIBLE",
    "BuilderFlag.WEIGHT_STREAMING",
    "DataType.FLOAT.name",
    "DataType.HALF",
    "DataType.BF16",
    "DataType.INT8",
    "ILogger.Severity.VERBOSE",
    "ILogger.Severity.WARNING",
    "ILogger.Severity.ERROR",
    "ILogger.Severity.INTERNAL_ERROR",
    "IHostMemory.nbytes",
    "EngineInspector.get_engine_information",
    "ITimingCache.serialize",
]
"""What is reached by a string, or by the result of a call."""
PARSER_ERROR = [("ParserError.desc", 0), ("ParserError.node", 0), ("ParserError.code", 0)]


def used() -> dict[str, int | None]:
    uses = uses_of_bindings(FILES, RECEIVERS) | dict.fromkeys(BY_NAME) | dict(PARSER_ERROR)
    return {name: count for name, count in uses.items() if name not in ONLY_RTX | {"ITensor.dtype.name"}}


def test_the_package_is_read_as_it_is_written() -> None:
    assert {
        "Builder": 1,
        "Builder.create_network": 1,
        "Builder.build_serialized_network": 2,
        "OnnxParser": 2,
        "OnnxParser.parse_from_file": 1,
        "OnnxParser.get_error": 1,
        "IBuilderConfig.add_optimization_profile": 1,
        "IBuilderConfig.set_timing_cache": 2,
        "IBuilderConfig.create_timing_cache": 1,
        "IBuilderConfig.set_memory_pool_limit": 2,
        "ILayer.get_input": 1,
        "Runtime.deserialize_cuda_engine": 1,
        "ICudaEngine.create_engine_inspector": 0,
        "IAttention.decomposable": None,
    }.items() <= used().items()
    asked = {
        f"{node.args[0].value}.{node.args[1].value}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "bindings.member"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[1], ast.Constant)
    }
    assert asked == {"BuilderFlag.TF32", "MemoryPoolType.WORKSPACE"}


@pytest.mark.parametrize("major", [10, 11])
def test_all_that_is_used_is_in_the_bindings(major: int) -> None:
    wanted = {**used(), "MemoryPoolType.WORKSPACE": None}
    if major == 10:
        wanted["NetworkDefinitionCreationFlag.STRONGLY_TYPED"] = None
    version, problems = with_bindings(major, CHECK, json.dumps(list(wanted.items())))
    assert version.startswith(f"{major}.")
    assert problems == []


LOAD = """
import json
from exporters.tensorrt.bindings import load_bindings
bindings = load_bindings()
print(json.dumps([str(bindings), bindings.major, bindings.network_flags]))
"""


def test_versions_differ_in_how_a_network_is_strongly_typed() -> None:
    assert with_bindings(11, LOAD) == ["TensorRT 11.4.0.106", 11, 0]
    assert with_bindings(10, LOAD) == ["TensorRT 10.16.1.11", 10, 2]


def load_with(folder: Path, name: str = "tensorrt") -> str:
    """Load bindings in a process that finds modules in a folder, and return what it says."""
    script = f"from exporters.tensorrt.bindings import load_bindings\nload_bindings({name!r})"
    command = [sys.executable, "-c", script]
    paths = environment() | {"PYTHONPATH": f"{ROOT}:{folder}"}
    done = subprocess.run(command, env=paths, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1].removeprefix("exporters.errors.MissingRuntimeError: ")


@pytest.mark.skipif("tensorrt" in sys.modules, reason="needs a machine without TensorRT")
def test_bindings_that_are_not_there(tmp_path: Path) -> None:
    assert load_with(tmp_path) == "TensorRT is not installed: pip install 'kprune-export[tensorrt]'."
    said = load_with(tmp_path, "tensorrt_rtx")
    assert said == (
        "TensorRT for RTX is not installed: install the Python wheel that is in NVIDIA's TensorRT for RTX archive."
    )


def test_bindings_whose_libraries_are_missing(tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("import ctypes\nctypes.CDLL('libnvinfer.so.99')\n", encoding="utf-8")
    said = load_with(tmp_path)
    assert said.startswith("TensorRT is installed but does not load (libnvinfer.so.99: cannot open")
    assert said.endswith("pip install 'kprune-export[tensorrt]'.")


def test_bindings_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("__version__ = '9.3.0.post12'\n", encoding="utf-8")
    assert load_with(tmp_path) == (
        "TensorRT 9.3.0.post12 is installed, but the versions 10.3 to 11 are supported: "
        "pip install 'kprune-export[tensorrt]'."
    )


@pytest.mark.parametrize(
    ("name", "version", "supported"),
    [
        ("tensorrt", "10.2.0", False),
        ("tensorrt", "10.3.0", True),
        ("tensorrt", "11.4.0.106", True),
        ("tensorrt", "12.0.0", False),
        ("tensorrt_rtx", "1.7.1", True),
        ("tensorrt_rtx", "2.0.0", False),
    ],
)
def test_which_versions_are_supported(name: BindingsName, version: str, supported: bool) -> None:
    assert is_supported(name, version) is supported


def test_what_a_version_does_not_have_is_named(tensorrt: None) -> None:
    bindings = load_bindings()
    with pytest.raises(EngineError, match=r"TensorRT 11\.[\d.]+ has no BuilderFlag\.FP16: do without it"):
        bindings.member("BuilderFlag", "FP16")
    assert isinstance(bindings, Bindings)
    with pytest.raises(MissingRuntimeError):
        load_bindings("tensorrt_rtx")
