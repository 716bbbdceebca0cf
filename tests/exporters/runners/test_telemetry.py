"""ONNX Runtime reports nothing about the machine or the model, wherever this project loads it."""

import os
import subprocess
import sys
from pathlib import Path

from exporters.onnx.file import OnnxArtefact

RUN = """
import sys
from pathlib import Path
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
with OnnxRuntimeRunner(Path(sys.argv[1]), 1):
    pass
"""
SWITCHES = ("ORT_DISABLE_TELEMETRY", "CI", "ORT_RUNNING_UNIT_TESTS")
"""By which it is off."""


def test_nothing_is_written_into_the_home_folder(artefact: OnnxArtefact, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        environment.pop(name, None)
    subprocess.run([sys.executable, "-P", "-c", RUN, artefact.path], check=True, env=environment, cwd="/")
    assert list(tmp_path.rglob("*")) == []
