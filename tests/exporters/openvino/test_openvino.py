"""OpenVINO for real: the same bytes, the precision asked for, and refusals in one sentence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_models import WORDS

from exporters.errors import MissingRuntimeError, RunnerError
from exporters.onnx.export import exported_graph
from exporters.onnx.write import GraphRecord, write_variant
from exporters.openvino.bindings import check_precision, check_version
from exporters.runners.base import Feeds
from exporters.runners.openvino_runner import OpenVinoRunner
from exporters.variant import Precision, Runtime, Variant
from kprune_export.model_export import model_spec
from pruning import ServingModule, load_checkpoint
from pruning.calibration.examples import Example

pytest.importorskip("openvino", reason="openvino is not installed: install kprune-export[openvino]")


@pytest.fixture(scope="module")
def feeds_and_files(
    make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Feeds], dict[Precision, tuple[GraphRecord, Path]], Path]:
    """Texts, and a tiny model's IRs by precision in one folder; and the fp32 one again in another folder."""
    checkpoint = load_checkpoint(make_checkpoint(num_hidden_layers=1))
    texts = [Example(" ".join(WORDS[i : i + 12]), None) for i in range(8)]
    feeds: list[Feeds] = [{x: b.inputs[x].numpy() for x in checkpoint.inputs} for b in checkpoint.batches(texts)]
    spec = model_spec(checkpoint, {})
    folder, again = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("again")
    files = {}
    for precision in (Precision.FP32, Precision.INT8):
        variant = Variant(Runtime.OPENVINO, precision)
        record = write_variant(exported_graph(ServingModule(checkpoint), spec), spec, variant, folder, feeds, 2)
        assert record.ir is not None
        files[precision] = record, folder / record.ir.name
    variant = Variant(Runtime.OPENVINO, Precision.FP32)
    write_variant(exported_graph(ServingModule(checkpoint), spec), spec, variant, again, feeds, 2)
    return feeds, files, again


def test_the_same_model_gives_the_same_bytes(feeds_and_files) -> None:
    _, files, again = feeds_and_files
    path = files[Precision.FP32][1]
    for file in (path, path.with_suffix(".bin")):
        assert file.read_bytes() == (again / file.name).read_bytes()


def test_fp32_is_fp32_though_the_processor_has_bf16(feeds_and_files) -> None:
    _, files, _ = feeds_and_files
    with OpenVinoRunner(files[Precision.FP32][1], Precision.FP32, 2) as runner:
        assert runner.product_types == {"f32"}


def test_int8_multiplies_in_8_bits(feeds_and_files) -> None:
    _, files, _ = feeds_and_files
    with OpenVinoRunner(files[Precision.INT8][1], Precision.INT8, 2) as runner:
        assert runner.product_types & {"u8", "i8"}


def test_results_outlive_the_next_call(feeds_and_files) -> None:
    feeds, files, _ = feeds_and_files
    with OpenVinoRunner(files[Precision.FP32][1], Precision.FP32, 2) as runner:
        first = runner.run(feeds[0])
        kept = {name: value.copy() for name, value in first.items()}
        runner.run({name: np.zeros_like(value) for name, value in feeds[0].items()})
        assert all(np.array_equal(first[name], kept[name]) for name in kept)


def test_missing_and_cut_weights_are_refused(feeds_and_files, tmp_path: Path) -> None:
    _, files, _ = feeds_and_files
    path = shutil.copy(files[Precision.FP32][1], tmp_path)
    with pytest.raises(RunnerError, match="is missing"):
        OpenVinoRunner(Path(path), Precision.FP32)
    weights = files[Precision.FP32][1].with_suffix(".bin").read_bytes()
    (tmp_path / Path(path).with_suffix(".bin").name).write_bytes(weights[: len(weights) // 2])
    with pytest.raises(RunnerError, match="OpenVINO cannot load"):
        OpenVinoRunner(Path(path), Precision.FP32)


def test_a_precision_that_the_processor_lacks_is_refused() -> None:
    check_precision(Precision.INT8, ["FP32", "INT8"])
    with pytest.raises(MissingRuntimeError, match="no bf16 instructions .* ask for fp32 or int8"):
        check_precision(Precision.BF16, ["FP32", "INT8"])


def test_old_versions_are_refused() -> None:
    check_version("2026.4.1-22982-e213a147257-releases/2026/4")
    with pytest.raises(MissingRuntimeError, match="2025.3.0 is older than 2026.4"):
        check_version("2025.3.0-19807-44526285f24")
