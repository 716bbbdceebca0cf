"""Configurations for the machines that a bundle was timed on, and a real server that is started with one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc

from exporters.machine.description import MachineRecord
from exporters.machine.gpu import GpuRecord
from kprune_export.errors import BundleError, VerificationError
from kprune_export.pipeline.run import Outcome, validate
from kprune_export.recipe.recipe import Recipe
from kprune_export.triton.check import Load, check_server
from kprune_export.triton.config import read_config
from kprune_export.triton.machines import machine_name
from kprune_export.triton.repository import RepositoryRequest, write_repository
from kprune_export.triton.repository_record import RepositoryRecord
from kprune_export.triton.server import running_server
from pruning.calibration.examples import Example
from pruning.checkpoint.source import file_sha256

MakeRecipe = Callable[..., Recipe]
Cli = Callable[..., int]
ENCODER = "encoder-onnxruntime-fp32"
OTHER = "Made-up-CPU-8-processors"


def machine(**values: Any) -> MachineRecord:
    given = {"cpu_model": "", "cpus": 1, "memory_gib": 1, "governor": None, "load_1min": 0, "system": "", "python": ""}
    return MachineRecord(**given | {"versions": {}} | values)


@pytest.fixture(scope="module")
def elsewhere(
    built: Outcome,
    classifier: Path,
    texts_file: Path,
    make_recipe: MakeRecipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What validate found, as if it had run on a machine with 8 processors where merging saves 3 ms a text."""
    output = tmp_path_factory.mktemp("elsewhere") / "validation"
    validate(built.output, make_recipe(classifier, output, texts_file, shapes=("1x16", "2x16")))
    (report,) = (latency := json.loads((output / "latency.json").read_text()))["variants"].values()
    report["subject"] |= {"threads": 2}
    report["subject"]["machine"] |= {"cpu_model": "Made-up(R) CPU", "cpus": 8, "gpu": None}
    for shape, milliseconds in zip(report["shapes"], (10, 14), strict=True):
        shape["pruned"]["p50_ms"] = milliseconds
        shape |= {"noise": None, "disturbance": None}  # whatever this machine did meanwhile
    (output / "latency.json").write_text(json.dumps(latency))
    manifest = json.loads((output / "manifest.json").read_text())
    (listed,) = (x for x in manifest["files"] if x["path"] == "latency.json")
    path = output / "latency.json"
    listed |= {"sha256": file_sha256(path), "size_bytes": path.stat().st_size}
    (output / "manifest.json").write_text(json.dumps(manifest))
    return output


def test_machines_are_named_by_their_gpu_or_their_processors() -> None:
    gpu = GpuRecord(name="NVIDIA H200", compute_capability="9.0", memory_gib=139.8, driver=None, cuda=None)
    assert machine_name(machine(cpu_model="x", gpu=gpu)) == "NVIDIA-H200"
    assert machine_name(machine(cpu_model="Intel(R) Xeon(R) CPU @ 2.20GHz", cpus=4)) == (
        "Intel-Xeon-CPU-2.20GHz-4-processors"
    )


def test_each_machine_has_a_configuration_of_what_was_timed_there(
    built: Outcome, elsewhere: Path, tmp_path: Path, cli: Cli, capsys: Any
) -> None:
    output = tmp_path / "models"
    assert cli("triton", built.output, "-o", output, "--backend", "python", "--validated", elsewhere) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"--model-config-name={OTHER}, as timed on Made-up(R) CPU, 8 processors: merging was timed" in shown
    (encoder,) = RepositoryRecord.of_repository(output).encoders
    here, other = encoder.configs
    assert (here.instances, here.reasons) == (encoder.instances, encoder.reasons)  # config.pbtxt is of this machine
    assert other.name == OTHER
    config = read_config(output / ENCODER, f"configs/{OTHER}.pbtxt")
    assert [x.count for x in config.instance_group] == [4]  # 8 processors, 2 threads each
    assert list(config.dynamic_batching.preferred_batch_size) == [2]
    assert config.dynamic_batching.max_queue_delay_microseconds == 3000  # 10 ms alone, 14 / 2 in a batch
    assert [x.name for x in config.model_warmup] == ["1x16", "2x16"]
    assert all((output / ENCODER / "warmup" / f"attention_mask-{x.name}").is_file() for x in config.model_warmup)
    base = read_config(output / ENCODER)
    for same in ("name", "backend", "max_batch_size", "input", "output", "version_policy"):
        assert getattr(config, same) == getattr(base, same)


def test_a_server_takes_the_configuration_that_it_is_given(
    server: str, built: Outcome, elsewhere: Path, tmp_path: Path
) -> None:
    output = tmp_path / "models"
    write_repository(RepositoryRequest(bundle=built.output, output=output, backend="python", validated=(elsewhere,)))
    with running_server(output, server, [f"--model-config-name={OTHER}"]) as endpoints:
        client = tritonclient.grpc.InferenceServerClient(str(endpoints.grpc))
        taken = client.get_model_config(ENCODER).config
        assert [x.count for x in taken.instance_group] == [4]
        assert taken.dynamic_batching.max_queue_delay_microseconds == 3000
        texts = [Example("a good film"), Example("the dull plot " * 9)]
        report = check_server(output, endpoints, "", texts, built.output, Load(8, 4))
    assert report.passed


def test_validations_of_other_bundles_are_refused(built: Outcome, elsewhere: Path, tmp_path: Path) -> None:
    def serve(bundle: Path, folder: Path) -> None:
        write_repository(RepositoryRequest(bundle=bundle, output=tmp_path / "models", validated=(folder,)))

    with pytest.raises(BundleError, match="does not hold what validate found of .* as it is: run kprune-export valid"):
        serve(built.output, built.output)
    other = tmp_path / "other"
    shutil.copytree(built.output, other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"commit": None, "flops_reduction": 0.1}))
    with pytest.raises(BundleError, match="does not hold what validate found"):
        serve(other, elsewhere)
    changed = tmp_path / "changed"
    shutil.copytree(elsewhere, changed)
    (changed / "latency.json").write_text("{}")
    with pytest.raises(VerificationError, match="has changed since it was made: ! changed latency.json"):
        serve(built.output, changed)
