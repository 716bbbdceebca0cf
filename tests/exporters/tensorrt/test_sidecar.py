"""The record beside a plan, and what it refuses to load."""

import json
from pathlib import Path
from typing import Any

import pytest

from exporters.errors import EngineError
from exporters.machine.gpu import GpuRecord
from exporters.tensorrt.bindings import load_bindings
from exporters.tensorrt.engine_record import EngineMachine, EngineRecord, check_machine, check_plan

H200 = GpuRecord(name="NVIDIA H200", compute_capability="9.0", memory_gib=140.0, driver="580.95", cuda="13.0")
H100 = H200.model_copy(update={"name": "NVIDIA H100"})
L4 = GpuRecord(name="NVIDIA L4", compute_capability="8.9", memory_gib=22.0, driver="580.95", cuda="13.0")
T4 = GpuRecord(name="Tesla T4", compute_capability="7.5", memory_gib=15.0, driver="580.95", cuda="13.0")
RTX_5090 = L4.model_copy(update={"name": "NVIDIA GeForce RTX 5090", "compute_capability": "12.0"})


@pytest.fixture
def record(bench: Any) -> EngineRecord:
    record: EngineRecord = bench.build().record
    return record


def edit(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return path


def test_a_record_is_read_as_it_was_written(record: EngineRecord, tmp_path: Path) -> None:
    record.write(tmp_path / "again.json")
    assert EngineRecord.read(tmp_path / "again.json") == record
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "model.json").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"profiles": ["min=1x1,opt=8x64,max=64x64"]},
        {"precision": "fp16"},
        {"plan_sha256": "0" * 64},
        {"record_sha256": ""},
        {"record_sha256": "0" * 64},
    ],
    ids=str,
)
def test_an_edited_record(record: EngineRecord, changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"model\.json was edited after the engine was built: build the engine again"):
        EngineRecord.read(edit(tmp_path / "model.json", **changes))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 1}, "version: Input should be 2"),
        ({"format": "kprune-plan"}, "format: Input should be 'kprune-engine'"),
        ({"bindings": "onnxruntime"}, "bindings: Input should be"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_a_record_of_another_kind(record: EngineRecord, changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"is not a valid record of an engine: {problem}"):
        EngineRecord.read(edit(tmp_path / "model.json", **changes))


def test_files_that_are_no_record(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    with pytest.raises(EngineError, match="is missing: an engine is loaded only with the record of its build"):
        EngineRecord.read(path)
    path.write_text('{"format": "kprune-eng', encoding="utf-8")
    with pytest.raises(EngineError, match="is not a valid record of an engine: the whole: Invalid JSON"):
        EngineRecord.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EngineError, match="is not a valid record of an engine: the whole: Invalid JSON"):
        EngineRecord.read(path)


def test_plans_that_are_not_the_one_described(record: EngineRecord, tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    check_plan(record, plan)
    data = plan.read_bytes()
    plan.write_bytes(data[:-1])
    with pytest.raises(EngineError, match=rf"is cut short: it has {len(data) - 1:,} of {len(data):,} bytes"):
        check_plan(record, plan)
    plan.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(EngineError, match="is not the plan that its record describes"):
        check_plan(record, plan)
    plan.write_bytes(data + b"\0")
    with pytest.raises(EngineError, match="is not the plan that its record describes"):
        check_plan(record, plan)
    plan.unlink()
    with pytest.raises(EngineError, match="is missing: build the engine again"):
        check_plan(record, plan)


def built_on(record: EngineRecord, **changes: Any) -> EngineRecord:
    return record.model_copy(update={"gpu": H200, "gpu_missing": None, "bindings_version": "11.4.0.106"} | changes)


def machine(gpu: GpuRecord | None = H200, version: str = "11.4.0.106", bindings: str = "tensorrt") -> EngineMachine:
    return EngineMachine(bindings=bindings, version=version, gpu=gpu)  # type: ignore[arg-type]  # pydantic checks it


AMPERE, SAME = {"hardware_compatibility": "ampere_plus"}, {"hardware_compatibility": "same_compute_capability"}
NEWER = {"builder_flags": ("VERSION_COMPATIBLE",)}
RTX = {"bindings": "tensorrt_rtx", "bindings_version": "1.7.1", "gpu": None}


@pytest.mark.parametrize(
    ("changes", "here"),
    [
        ({}, machine()),
        (SAME, machine(H100)),
        (AMPERE, machine(L4)),
        (AMPERE, machine(RTX_5090)),
        (NEWER, machine(version="11.4.0.107")),
        (NEWER, machine(version="11.10.0.1")),
        (RTX, machine(L4, "1.7.1", "tensorrt_rtx")),
        (RTX, machine(RTX_5090, "1.7.1", "tensorrt_rtx")),
        (RTX | {"compute_capabilities": ("7.5", "8.9")}, machine(T4, "1.7.1", "tensorrt_rtx")),
    ],
)
def test_machines_that_run_an_engine(record: EngineRecord, changes: dict[str, Any], here: EngineMachine) -> None:
    check_machine(built_on(record, **changes), here)


@pytest.mark.parametrize(
    ("changes", "here", "message"),
    [
        ({}, machine(version="11.5.0.1"), r"built by tensorrt 11\.4\.0\.106, but 11\.5\.0\.1 is installed"),
        ({}, machine(version="11.4.0.107"), "is installed here: install that version, or build the engine again"),
        (NEWER, machine(version="11.3.0.1"), r"but 11\.3\.0\.1 is installed"),
        (NEWER, machine(version="12.0.0.1"), r"but 12\.0\.0\.1 is installed"),
        ({}, machine(bindings="tensorrt_rtx"), "built with tensorrt, but tensorrt_rtx is to load it"),
        ({}, machine(None), "runs on an NVIDIA GPU, but torch finds none here"),
        ({}, machine(H100), r"for a NVIDIA H200 \(9\.0\), hardware compatibility none, but this one is a NVIDIA H100"),
        (SAME, machine(L4), r"compatibility same_compute_capability, but this one is a NVIDIA L4 \(8\.9\)"),
        (AMPERE, machine(T4), r"compatibility ampere_plus, but this one is a Tesla T4 \(7\.5\): build it again"),
        (RTX, machine(T4, "1.7.1", "tensorrt_rtx"), r"for GPUs of compute capability 8\.6 and later, but this one"),
        (
            RTX | {"compute_capabilities": ("7.5", "8.9")},
            machine(RTX_5090, "1.7.1", "tensorrt_rtx"),
            r"for GPUs of compute capability 7\.5, 8\.9, but this one is a NVIDIA GeForce RTX 5090 \(12\.0\)",
        ),
        ({"gpu": None, "gpu_missing": "none was there"}, machine(), r"built without a GPU \(none was there\)"),
    ],
)
def test_machines_that_do_not(record: EngineRecord, changes: dict[str, Any], here: EngineMachine, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        check_machine(built_on(record, **changes), here)


def test_this_machine(tensorrt: None) -> None:
    bindings = load_bindings()
    here = EngineMachine.here(bindings)
    assert (here.bindings, here.version) == ("tensorrt", bindings.version)
