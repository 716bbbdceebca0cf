"""A bundle for OpenVINO, made and validated over the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason="openvino is not installed: install kprune-export[openvino]")


def test_a_bundle_is_made_and_validated_and_a_changed_bin_is_found(
    cli: Callable[..., int], classifier: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    arguments = ["--runtime", "openvino", "--precision", "fp32,int8", "--flops-reduction", "0.3", "--shapes", "1x8"]
    texts = ["--calibration", str(texts_file), "--timing-seconds", "0.3"]
    assert cli("prune-and-build", str(classifier), "-o", str(bundle), *texts, *arguments) == 0
    variants = json.loads((bundle / "onnx" / "graphs.json").read_text())["variants"]
    assert set(variants) == {"openvino-fp32", "openvino-int8"}
    for name, record in variants.items():
        assert (bundle / "onnx" / record["ir"]["name"]).is_file(), name
    latency = json.loads((bundle / "latency.json").read_text())["variants"]
    assert set(latency) >= {"openvino-fp32", "openvino-int8"}
    assert cli("verify", str(bundle)) == 0
    weights = bundle / "onnx" / "model-openvino-fp32.bin"
    weights.write_bytes(bytes([weights.read_bytes()[0] ^ 1]) + weights.read_bytes()[1:])
    capsys.readouterr()
    assert cli("verify", str(bundle)) != 0
    assert "model-openvino-fp32.bin" in capsys.readouterr().out
