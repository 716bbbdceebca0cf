"""Sweeps on a real Ray cluster on this machine."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from kprune_export.bundle.manifest import Manifest
from kprune_export.bundle.verify import verify_bundle
from kprune_export.experiments.sweep.messages import Order
from kprune_export.experiments.sweep.ray_trials import RayTrials
from kprune_export.experiments.sweep.sweep_record import SweepRecord

Cli = Callable[..., int]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install -c constraints.txt '.[ray]'")
QUICK = ["--samples", 60, "--held-out", 20, "--threads", 1, "--shapes", "4x32", "--timing-seconds", 0.05]


@needs_ray
def test_trials_are_made_on_the_cluster_and_their_bundles_come_back(
    cli: Cli, wide: Path, texts_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "family"
    arguments = ["sweep", wide, "-o", output, "--calibration", texts_file, "--speedups", "1.1,2000", *QUICK]
    arguments.append("--no-dense-int8")
    assert cli(*arguments, "--ray", "local") == 0
    dense, pruned, failed = SweepRecord.of_folder(output).trials
    assert failed.error is not None
    assert "out of reach" in failed.error
    manifests = {}
    for trial in (dense, pruned):
        manifests[trial.name], difference = verify_bundle(output / trial.bundle)
        assert not difference
    shared = (output / "shared/sensitivity/sensitivity.json").read_bytes()
    assert (output / pruned.bundle / "sensitivity.json").read_bytes() == shared
    before = {name: (output / "trials" / name / "latency.json").read_bytes() for name in manifests}

    assert cli(*arguments, "--ray", "local") == 0  # finished bundles travel there, and nothing is done again
    assert {name: (output / "trials" / name / "latency.json").read_bytes() for name in manifests} == before
    assert cli(*arguments) == 0  # nor is it without the cluster
    assert {name: (output / "trials" / name / "latency.json").read_bytes() for name in manifests} == before
    assert Manifest.of_bundle(output / dense.bundle) == manifests[dense.name]


@needs_ray
def test_clusters_that_cannot_be_used(
    cli: Cli, wide: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sweep", wide, "-o", tmp_path / "family", "--calibration", texts_file, *QUICK]
    assert cli(*arguments, "--ray", "127.0.0.1:1") == 2
    assert "No Ray cluster can be used at 127.0.0.1:1" in capsys.readouterr().err
    assert cli(*arguments, "--ray", "local", "--threads", 4096) == 2
    assert "A trial runs with 4096 threads, but no node" in capsys.readouterr().err
    assert not (tmp_path / "family").exists()


@needs_ray
def test_what_fails_on_a_node_is_a_failed_trial(tmp_path: Path) -> None:
    order = Order(
        recipe={"model": "m", "output": str(tmp_path / "out"), "sensitivity": str(tmp_path / "s")},
        dense=False,
        turns="",
    )
    (tmp_path / "s").write_bytes(b"{}")
    with RayTrials.connect("local", 1) as trials:
        (end,) = trials.run([order], lambda _: None, pytest.fail)
    assert end.exit_code == 2
    assert end.error is not None
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_it_says_how_to_install_it(
    cli: Cli, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("sweep", classifier, "-o", tmp_path / "family", *QUICK, "--ray", "auto") == 5
    assert "Ray is not installed" in capsys.readouterr().err
    assert not (tmp_path / "family").exists()


def test_parallel_is_for_this_machine(
    cli: Cli, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("sweep", classifier, "-o", tmp_path / "family", *QUICK, "--ray", "auto", "--parallel", 2) == 2
    assert "--parallel is for this machine" in capsys.readouterr().err
