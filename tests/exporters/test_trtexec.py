from pathlib import Path

import numpy as np
import pytest

from exporters.errors import ShapeError
from exporters.spec import Shape
from exporters.tensorrt import OptimizationProfile
from exporters.timing.latency import TimingSettings
from exporters.trtexec import TrtexecModel, trtexec_command, write_trtexec_inputs

INPUTS = ("input_ids", "attention_mask")
SMALL = OptimizationProfile(Shape(1, 1), Shape(1, 128), Shape(1, 128))
LARGE = OptimizationProfile(Shape(1, 1), Shape(8, 128), Shape(32, 512))
ENGINE = TrtexecModel(Path("model.plan"), INPUTS, (SMALL, LARGE), 11)
SETTINGS = TimingSettings()


def test_an_engine_of_tensorrt_11() -> None:
    assert trtexec_command(ENGINE, Shape(8, 128), SETTINGS, cuda_graphs=True) == (
        "trtexec --loadEngine=model.plan --shapes=input_ids:8x128,attention_mask:8x128 --useProfile=1 "
        "--warmUp=200 --duration=3 --iterations=15 --infStreams=1 --percentile=90,95,99"
    )
    without = trtexec_command(ENGINE, Shape(1, 64), TimingSettings(0.5, 0.25, 10), cuda_graphs=False, data=Path("a b"))
    assert without == (
        "trtexec --loadEngine=model.plan --shapes=input_ids:1x64,attention_mask:1x64 --useProfile=0 "
        "'--loadInputs=input_ids:a b/input_ids.bin,attention_mask:a b/attention_mask.bin' "
        "--warmUp=500 --duration=0.25 --iterations=10 --infStreams=1 --percentile=90,95,99 --noCudaGraph"
    )


def test_an_onnx_file_with_tensorrt_10() -> None:
    model = TrtexecModel(Path("model.onnx"), ("input_ids",), (SMALL, LARGE), 10)
    assert trtexec_command(model, Shape(32, 512), SETTINGS, cuda_graphs=True) == (
        "trtexec --onnx=model.onnx "
        "--profile=0 --minShapes=input_ids:1x1 --optShapes=input_ids:1x128 --maxShapes=input_ids:1x128 "
        "--profile=1 --minShapes=input_ids:1x1 --optShapes=input_ids:8x128 --maxShapes=input_ids:32x512 "
        "--stronglyTyped --noTF32 --shapes=input_ids:32x512 --useProfile=1 "
        "--warmUp=200 --duration=3 --iterations=15 --infStreams=1 --percentile=90,95,99 "
        "--noDataTransfers --useSpinWait --useCudaGraph"
    )


def test_a_shape_outside_the_profiles() -> None:
    with pytest.raises(ShapeError, match="The shape 64x128 is outside every profile"):
        trtexec_command(ENGINE, Shape(64, 128), SETTINGS, cuda_graphs=True)


def test_inputs_are_written_as_raw_bytes(tmp_path: Path) -> None:
    ids = np.arange(6).reshape(2, 3)
    write_trtexec_inputs(tmp_path / "data", {"input_ids": ids.T})
    assert (tmp_path / "data" / "input_ids.bin").read_bytes() == np.array([0, 3, 1, 4, 2, 5]).tobytes()
