"""Runs that are killed by SIGKILL before each change of the file system, one after the other, and then run again.

Whatever the moment: nobody sees a finished folder that is not whole, the same command succeeds, and what it leaves is
what a run leaves that was never killed.
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from killing import killed_before
from output_folders import SOURCE, build, run_folder, run_stage, tree

from kprune_export.bundle.layout import MANIFEST, REPOSITORY_RECORD, WORK
from kprune_export.bundle.signature import sign_bundle, signature_problem
from kprune_export.bundle.verify import verify_bundle
from kprune_export.bundle.workspace import Workspace
from kprune_export.errors import BundleError
from kprune_export.experiments.compare.folder import RESULTS, ComparisonFolder
from kprune_export.experiments.compare.request import CellRequest
from kprune_export.experiments.compare.results import Cell, Comparison
from kprune_export.output_folder.publication import PUBLICATION
from kprune_export.pipeline.run import Outcome
from kprune_export.triton.folder import write_folder
from kprune_export.triton.repository import (
    PlannedRepository,
    ServedBundle,
    Serving,
    plan_repository,
)
from kprune_export.triton.repository_record import RepositoryRecord

Stages = dict[str, dict[str, str]]
OLD: Stages = {
    "one": {"plan.json": "old", "checkpoint/a": "old", "checkpoint/deep/b": "old"},
    "two": {"onnx/model.onnx": "old", "onnx/weights": "same"},
    "three": {"parity.json": "kept"},
    "four": {"report.html": "gone"},
}
NEW: Stages = {
    "one": {"plan.json": "new", "checkpoint/a": "new", "checkpoint/c": "new"},
    "two": {"onnx": "a file where a folder was"},
    "three": {"parity.json": "kept"},
    "five": {"engines/model.plan": "new"},
}


def kill_at_every_step(again: Callable[[], object], check: Callable[[], None], restore: Callable[[], None]) -> int:
    """Kill work before each of its changes in turn, check what is there, and return how many changes there were."""
    for number in range(1, 1000):
        restore()
        if not killed_before(number, again):
            return number - 1
        check()
    raise AssertionError("it never ends")


def files_of(stages: Stages) -> dict[str, bytes]:
    return {path: text.encode() for files in stages.values() for path, text in files.items()}


def without(found: dict[str, bytes], record: str) -> dict[str, bytes]:
    return {path: content for path, content in found.items() if path != record}


@pytest.mark.parametrize("before", [None, OLD], ids=["new", "replacing"])
def test_a_bundle(before: Stages | None, tmp_path: Path) -> None:
    output, published = tmp_path / "deep" / "out", [False, False, False]

    def restore() -> None:
        shutil.rmtree(tmp_path / "deep", ignore_errors=True)
        if before:
            build(output, before)

    def check() -> None:
        with contextlib.suppress(BundleError):
            _, difference = verify_bundle(output)
            assert not difference.without_work()
            there = {name: content for name, content in tree(output).items() if not name.startswith(WORK)}
            state = [files_of(before or {}), files_of(NEW)].index(without(there, MANIFEST))
            published[state] = True
        if not (output / MANIFEST).exists():
            published[2] = True
        build(output, NEW)
        assert not verify_bundle(output)[1]
        assert without(tree(output), MANIFEST) == files_of(NEW)

    assert kill_at_every_step(lambda: build(output, NEW), check, restore) > 30
    assert published == [before is not None, True, True]  # every kind of moment was there


def test_a_bundle_that_was_killed_again_while_the_next_run_completed_it(tmp_path: Path) -> None:
    output, stopped = tmp_path / "out", tmp_path / "stopped"
    build(output, OLD)
    assert killed_before(4, lambda: build(output, NEW), after=PUBLICATION)
    assert not (output / MANIFEST).exists()
    shutil.copytree(output, stopped)

    def restore() -> None:
        shutil.rmtree(output)
        shutil.copytree(stopped, output)

    def check() -> None:
        build(output, NEW)
        assert without(tree(output), MANIFEST) == files_of(NEW)
        assert not verify_bundle(output)[1]

    assert kill_at_every_step(lambda: build(output, NEW), check, restore) > 10


def test_what_the_user_put_into_a_half_published_folder_is_kept(tmp_path: Path) -> None:
    """A file of the user's that has the name of one that is still to come is not overwritten."""
    output, refused = tmp_path / "out", 0
    for number in range(1, 200):
        shutil.rmtree(output, ignore_errors=True)
        build(output, OLD)
        assert killed_before(number, lambda: build(output, NEW), after=PUBLICATION)
        place = output / "engines" / "model.plan"
        if place.exists():
            break
        place.parent.mkdir(exist_ok=True)
        place.write_text("precious")
        with pytest.raises(Exception, match="engines"):
            build(output, NEW)
        assert place.read_text() == "precious"
        shutil.rmtree(place.parent)
        build(output, NEW)
        assert without(tree(output), MANIFEST) == files_of(NEW)
        refused += 1
    assert refused > 5  # until the file was in its place


@pytest.fixture(scope="module")
def planned(built: Outcome) -> tuple[PlannedRepository, PlannedRepository]:
    """Two repositories, planned here so that the children only write them."""

    def plan(serving: Serving) -> PlannedRepository:
        manifest = built.manifest
        bundle = ServedBundle(
            files=lambda path: built.output / path,
            variants=manifest.variants,
            task=manifest.task,
            labels=manifest.labels,
            verdict=None,
            plan_sha256=manifest.plan_sha256,
        )
        return plan_repository(bundle, serving)

    return plan(Serving(name="old", backend="python")), plan(Serving(name="new", backend="python", text=False))


@pytest.mark.parametrize("replaces", ["nothing", "another", "the same"])
def test_a_triton_repository(
    replaces: str, planned: tuple[PlannedRepository, PlannedRepository], tmp_path: Path
) -> None:
    output = tmp_path / "models"

    def write(repository: PlannedRepository) -> None:
        with write_folder(output) as folder:
            repository.write(folder)

    def compile_models() -> None:  # as a server's Python backend does
        for model in output.glob("*/1/model.py"):
            (model.parent / "__pycache__").mkdir()
            (model.parent / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"compiled")

    def restore() -> None:
        shutil.rmtree(output, ignore_errors=True)
        if replaces != "nothing":
            write(planned[replaces == "the same"])
            compile_models()

    def check() -> None:
        with contextlib.suppress(BundleError):
            assert_whole(output)
        write(planned[1])
        assert_whole(output)
        assert {path.name for path in output.iterdir()} == {"new-onnxruntime-fp32", REPOSITORY_RECORD}
        assert not list(output.rglob("__pycache__"))

    assert kill_at_every_step(lambda: write(planned[1]), check, restore) > 25


def assert_whole(repository: Path) -> None:
    record = RepositoryRecord.of_repository(repository)
    for file in record.files:
        assert (repository / file.path).stat().st_size == file.size_bytes


def comparison(cells: tuple[Cell, ...]) -> Comparison:
    return Comparison.model_validate(
        {
            "task": "none", "source": SOURCE, "sequence_length": 1, "methods": (), "rates": (), "seeds": (),
            "calibration": (), "held_out": (), "divergence_name": "d", "fidelity_name": None, "metric_name": None,
            "dense_metric": None, "rows": (), "cells": cells,
        }
    )  # fmt: skip


def compare(output: Path, rates: tuple[float, ...]) -> Comparison:
    """Do what a comparison does: run the cells that are not there, and publish."""
    with ComparisonFolder.open(output) as folder:
        cells = []
        for rate in rates:
            request = CellRequest("random", rate, 0)
            cell = folder.finished(request, "k")
            if cell is None:
                (folder.journal(request) / "step").write_text("step")
                cell = Cell(method="random", rate=rate, seed=0, key="k")
                folder.keep(request, cell)
            cells.append(cell)
        texts = {"compare.svg": str(rates), "compare.md": str(rates)}
        return folder.publish(texts, comparison(tuple(cells)))


@pytest.mark.parametrize("before", [(), (0.1, 0.2)], ids=["new", "adding to one"])
def test_a_comparison(before: tuple[float, ...], tmp_path: Path) -> None:
    output = tmp_path / "out"

    def restore() -> None:
        shutil.rmtree(output, ignore_errors=True)
        if before:
            compare(output, before)

    def check() -> None:
        if (output / RESULTS).exists():
            assert_whole_comparison(output)
        compare(output, (0.2, 0.3))
        assert_whole_comparison(output)
        assert {path.name for path in output.iterdir()} == {RESULTS, "compare.md", "compare.svg", "cells"}
        rates = sorted({*before, 0.2, 0.3})
        assert sorted(path.name for path in (output / "cells").iterdir()) == [f"random-{x}-0.json" for x in rates]
        assert (output / "compare.md").read_text() == "(0.2, 0.3)"

    assert kill_at_every_step(lambda: compare(output, (0.2, 0.3)), check, restore) > 25


def assert_whole_comparison(output: Path) -> None:
    record = Comparison.model_validate_json((output / RESULTS).read_text())
    assert {file.path for file in record.files} >= {"compare.md", "compare.svg"}
    for file in record.files:
        assert (output / file.path).stat().st_size == file.size_bytes


def test_a_signature(tmp_path: Path) -> None:
    output, private, public = tmp_path / "out", tmp_path / "private.pem", tmp_path / "public.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))

    def restore() -> None:
        shutil.rmtree(output, ignore_errors=True)
        build(output, NEW)
        sign_bundle(output, private)

    def check() -> None:
        if not (output / WORK).exists():
            assert signature_problem(output, public) is None  # the old one or the new
        sign_bundle(output, private)
        assert signature_problem(output, public) is None
        assert not (output / WORK).exists()

    assert kill_at_every_step(lambda: sign_bundle(output, private), check, restore) > 8


def test_a_run_that_was_stopped_is_resumed_under_another_name(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), Workspace.open(output) as workspace:
        run_stage(workspace, "one", NEW["one"])
        raise KeyboardInterrupt
    first = run_folder(output)
    with Workspace.open(output) as workspace:
        assert workspace.finished("one", "k") is not None
        assert run_folder(output) != first
