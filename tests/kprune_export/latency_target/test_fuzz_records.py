"""Damaged and hostile latency tables, sensitivity curves, targets and sweeps, to what reads them."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fuzz_mutations as mutations
import pytest
from fuzz_mutations import COMPLAINTS, VERDICTS, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from exporters.machine.description import describe_machine
from exporters.timing.latency_table.table import CostCurve, EncoderDimensions, LatencyTable, ShapeTable
from kprune_export.bundle.manifest import SourceRecord, TextsRecord
from kprune_export.errors import exit_code_of
from kprune_export.evaluation.fidelity import FidelityMeasure
from kprune_export.experiments.sweep.sweep_record import SweepRecord, Trial, TrialFigures, TrialLatency
from kprune_export.latency_target.search import TimeSearch
from kprune_export.latency_target.target_record import LatencyTarget, SensitivityRecord, TargetRecord, TargetShape
from pruning.methods.kprune.sensitivity import SensitivityCurve

SIZES = EncoderDimensions(family="bert", layers=1, hidden_size=16, heads=4, head_size=4, neurons=32)
TARGET = LatencyTarget(speedup=1.5, latency_ms=None, shapes=(TargetShape(shape="1x8", weight=1.0),))
MACHINE = describe_machine()
OUTSIDE = "../outside"
Ends = Counter[str]
"""How often each kind of file ended with each exit code."""


def table() -> LatencyTable:
    attention = CostCurve(widths=(0, 2, 4), measured=(0.0, 0.2, 0.4), smoothed=(0.0, 0.2, 0.4))
    ffn = CostCurve(widths=(0, 16, 32), measured=(0.0, 0.3, 0.5), smoothed=(0.0, 0.3, 0.5))
    return LatencyTable(
        runtime="onnxruntime",
        precision="fp32",
        dimensions=SIZES,
        threads=2,
        machine=MACHINE,
        method="by hand",
        shapes=(ShapeTable(shape="1x8", dense_ms=3.0, fixed=0.1, attention=attention, ffn=ffn),),
    ).sealed()


def curves() -> SensitivityRecord:
    found = (
        SensitivityCurve(widths=(4, 2, 0), losses=(0.0, 0.5, 1.0)),
        SensitivityCurve(widths=(32, 16, 0), losses=(0.0, 0.1, 1.0)),
    )
    return SensitivityRecord(source_sha256="a", texts_sha256="b", seed=0, curves=found)


def family() -> SweepRecord:
    def trial(name: str, ms: float) -> Trial:
        latency = TrialLatency(shape="1x8", p50_ms=ms, speedup=1, speedup_low=0.9, speedup_high=1.1, noise=None)
        figures = TrialFigures(
            flops_reduction=0.5,
            size_bytes=1,
            fidelity=FidelityMeasure(name="agreement", value=0.9, higher_is_better=True, description=""),
            metric=None,
            latency=(latency,),
            verdict="not gated",
            gates=(),
        )
        return Trial(name=name, variant="onnxruntime-fp32", speedup=2, bundle=f"trials/{name}", figures=figures)

    return SweepRecord(
        source=SourceRecord(model="m", weights_sha256="", config_sha256="", tokenizer_sha256=""),
        task="single-label classification",
        held_out=TextsRecord(source="t", texts=40, sha256=""),
        machine=MACHINE,
        threads=2,
        shapes=("1x8",),
        trials=(trial("a", 2.0), trial("b", 3.0)),
    )


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    found: Ends = Counter()
    yield found
    print(f"\nfuzzed, with exit codes: {json.dumps(found)}")


def search(table: Path, curves: Path) -> TargetRecord:
    found = LatencyTable.read(table)
    found.check_model(SIZES, "onnxruntime", "fp32")
    losses = SensitivityRecord.read(curves)
    losses.check_model(SIZES)
    return TimeSearch(TARGET, found, losses.curves, 16).run(None, "onnxruntime-fp32")


def resealed(content: bytes) -> bytes:
    """Return a table with the hash of what it holds, where it is one: an editor of the file can make that too."""
    try:
        return LatencyTable.model_validate_json(content).sealed().model_dump_json().encode()
    except ValidationError:
        return content


@pytest.mark.parametrize("kind", ["table", "curves", "target"])
@fuzzed
@given(data=st.data())
def test_what_a_target_is_searched_with(kind: str, ends: Ends, data: st.DataObject, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.json" for name in ("table", "curves", "target")}
    table().write(files["table"])
    curves().write(files["curves"])
    found = search(files["table"], files["curves"])
    found.model_copy(update={"search_s": 0.01}).write(files["target"])  # the same each time
    changed = data.draw(mutations.changed_json(files[kind].read_bytes(), OUTSIDE))
    files[kind].write_bytes(resealed(changed) if kind == "table" else changed)
    code, said = 0, ""
    try:
        if kind == "target":
            record = TargetRecord.read(files["target"])
            assert record.asked_speedup * record.taken.predicted_share
        else:
            search(files["table"], files["curves"])
    except Exception as error:
        code, said = exit_code_of(error), repr(error)
    assert code in COMPLAINTS, said
    ends[f"{kind}, {code}"] += 1


@fuzzed
@given(data=st.data())
def test_the_record_of_a_sweep(
    cli: Callable[..., int],
    ends: Ends,
    data: st.DataObject,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    content = data.draw(mutations.changed_json(family().model_dump_json().encode(), OUTSIDE))
    (tmp_path / "sweep.json").write_bytes(content)
    code = cli("recommend", tmp_path, "--min-fidelity", 0.5)
    said = capsys.readouterr().err
    assert code in COMPLAINTS | VERDICTS, said
    assert json.loads(content) if code == 0 else said.count("Error: ") == 1
    ends[f"sweep, {code}"] += 1
