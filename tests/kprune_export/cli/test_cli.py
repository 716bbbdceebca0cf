"""The command line as a user meets it: exit codes, messages, JSON, and folders left as they were."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from exporters.machine.description import describe_machine
from kprune_export.pipeline.run import Outcome

Cli = Callable[..., int]
QUICK = [
    "--samples",
    150,
    "--held-out",
    40,
    "--sequence-length",
    16,
    "--shapes",
    "1x8",
    "--timing-seconds",
    0.1,
    "--threads",
    2,
]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_prune_and_build_for_people(
    cli: Cli, classifier: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert (
        cli("prune-and-build", classifier, "-o", output, "--calibration", texts_file, "--min-agreement", 0.1, *QUICK)
        == 0
    )
    out, err = capsys.readouterr()
    for wanted in (
        "of the encoder's FLOPs removed",
        "agreement",
        "min_agreement",
        "Verdict: passed: parity holds, and every gate",
        f"Written to {output}",
    ):
        assert wanted in out
    assert "[1/11] Pruning: done in" in err
    assert "[11/11] Writing the report: done in" in err


def test_a_failed_gate_is_3_and_the_bundle_says_so(
    cli: Cli, classifier: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    gates = ["--min-speedup", 1000, "--max-size-mib", 0.001, "--min-agreement", 0.0]
    assert cli("prune-and-build", classifier, "-o", output, "--calibration", texts_file, "--json", *QUICK, *gates) == 3
    summary = json.loads(capsys.readouterr().out)
    assert summary["verdict"] == "failed"
    assert summary["verdict_in_words"] == "failed: 2 of 3 gates did not hold (2 warnings)"
    assert {gate["name"]: gate["passed"] for gate in summary["gates"]} == {
        "min_speedup": False, "max_size_mib": False, "min_agreement": True,
    }  # fmt: skip
    assert json.loads((output / "manifest.json").read_text())["verdict"] == "failed"
    assert "2 of 3 gates did not hold" in (output / "report.html").read_text()
    assert cli("verify", output) == 0


def test_a_recipe_with_flags_over_it(
    cli: Cli, classifier: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {classifier}\ncalibration: {texts_file}\nflops_reduction: 0.2\nsequence_length: 16\nthreads: 2\n"
    )
    assert cli("prune", "--recipe", recipe, "-o", tmp_path / "out", "--flops-reduction", 0.6, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert 0.6 <= summary["flops_reduction"] < 0.62
    assert (summary["command"], summary["variants"]) == ("prune", [])


def test_only_what_was_validated_is_printed_and_evaluated(
    cli: Cli, built: Outcome, classifier: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same words everywhere; pruning alone validates nothing, and an export has no pruned side."""
    pruning = ["--calibration", texts_file, "--samples", 150, "--sequence-length", 16, "--threads", 2]
    assert cli("prune", classifier, "-o", tmp_path / "pruned", *pruning) == 0
    out = capsys.readouterr().out
    assert "heads" in out
    assert "erdict" not in out
    assert "dense" not in out
    assert cli("verify", tmp_path / "pruned", "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] is None
    assert cli("export", classifier, "-o", tmp_path / "dense", "--threads", 2) == 0
    out = capsys.readouterr().out
    assert "parity with torch" in out
    assert "pruned" not in out
    words = "not gated: parity holds, and no gates were set"
    assert f"Verdict: {words}\n" in out  # of an export, whose fidelity is not measured
    assert cli("verify", built.output, "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict_in_words"].startswith(words)
    assert words.capitalize() in (built.output / "report.html").read_text()
    assert cli("validate", built.output, "--shapes", "1x4", "--threads", 2, "--timing-seconds", 0.1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict_in_words"].startswith(words)


def test_models_are_timed_in_processes_of_their_own(cli: Cli, built: Outcome, tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    settings = ["--shapes", "1x4,2x8", "--threads", 2, "--timing-seconds", 0.1]
    assert cli("validate", built.output, *settings, "--isolate", "-o", tmp_path / "out") == 0
    (latency,) = json.loads((tmp_path / "out/latency.json").read_text())["variants"].values()
    assert "each in a process of its own, whose threads sleep while another runs" in latency["method"]
    assert "in one process" not in latency["method"]
    for shape in latency["shapes"]:
        assert shape["speedup_low"] <= shape["speedup"] <= shape["speedup_high"]
        assert shape["noise"]["ratio"] > 0
    assert set(psutil.Process().children(recursive=True)) <= before


def test_verify_inspect_validate_export(
    cli: Cli, built: Outcome, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(built.output, tmp_path / "bundle"))
    assert cli("verify", bundle) == 0
    assert "is intact: " in capsys.readouterr().out
    assert cli("inspect", bundle) == 0
    assert "50." in capsys.readouterr().out
    assert cli("inspect", bundle / "checkpoint", "--json") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "pruned checkpoint"
    assert cli("inspect", classifier, "--json") == 0
    assert json.loads(capsys.readouterr().out)["heads"] == [4, 4]
    assert cli("validate", bundle, "--shapes", "1x4", "--threads", 2, "--json") == 0
    assert json.loads(capsys.readouterr().out)["variants"][0]["latency"][0]["shape"] == "1x4"
    assert cli("validate", bundle, "--min-speedup", 1000, "--shapes", "1x4", "--threads", 2) == 3
    assert cli("export", classifier, "-o", tmp_path / "dense", "--threads", 2) == 0
    (bundle / "plan.json").write_text("{}")
    capsys.readouterr()
    assert cli("verify", bundle, "--json") == 2
    answer = capsys.readouterr().out
    assert json.loads(answer)["changed"] == ["plan.json"]
    assert '\n  "changed": [\n' in answer


def test_doctor(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("doctor", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    by_name = {finding["name"]: finding for finding in report["findings"]}
    assert report["ready"]
    assert by_name["torch"]["found"]
    assert by_name["int8"]["found"] is describe_machine().multiplies_int8
    assert "as fast as fp32" in by_name["int8"]["detail"]
    assert by_name["onnxruntime CPUExecutionProvider"]["found"]
    for finding in report["findings"]:
        assert finding["found"] or finding["detail"]
    assert cli("doctor") == 0
    assert "The main job can run here." in capsys.readouterr().out


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def poison(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


BAD_MODELS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "not a checkpoint": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "unsupported architecture": (lambda f: change_config(f, model_type="t5"), "supported are bert"),
    "decoder": (lambda f: change_config(f, is_decoder=True), "is a decoder"),
    "pickled weights": (pickle_weights, "--allow-pickle"),
    "truncated weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:5000]),
        "not a sound safetensors file",
    ),
    "NaN weights": (poison, "NaN or infinite in classifier.weight"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
@pytest.mark.parametrize("command", ["prune-and-build", "prune", "export"])
def test_bad_models(
    case: str,
    command: str,
    cli: Cli,
    classifier: Path,
    texts_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change, message = BAD_MODELS[case]
    model = Path(shutil.copytree(classifier, tmp_path / "model"))
    change(model)
    texts = [] if command == "export" else ["--calibration", texts_file]
    refused(cli, capsys, tmp_path, message, command, model, *texts)


def refused(cli: Cli, capsys: pytest.CaptureFixture[str], tmp_path: Path, message: str, *arguments: object) -> None:
    """The command ends with 2, one sentence on standard error, and no output folder."""
    output = tmp_path / "new" / "out"
    assert cli(*arguments, "-o", output, "--threads", 2) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert err.startswith("Error: ")
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--flops-reduction", 0], "must be above 0 and below 1, but 0.0 was given"),
        (["--flops-reduction", 1.2], "must be above 0 and below 1"),
        (["--flops-reduction", 0.9999999], "leaves nothing to keep"),
        (["--flops-reduction", 0.9, "--method", "kcm2023"], "removes FFN neurons only"),
        (["--shapes", "8x"], "'8x' is not a shape"),
        (["--shapes", "1x8,1x65"], "1x65 has 65 tokens, but the model reads at most 64"),
        (["--samples", 0], "'--samples' is not valid"),
        (["--min-metric", 0.5], "--min-metric needs labels, but"),
        (["--calibration", "nowhere.csv"], "nowhere.csv does not exist"),
        (["--text-column", "body", "--calibration", "{csv}"], "has no column 'body'"),
        (["--calibration", "{empty}"], "holds no text"),
        (["--calibration", "{columns}"], "no column with a usual name for texts"),
        (["--calibration", "{latin}"], "is not UTF-8"),
        (["--calibration", "{short}"], "tokens, but at least 12 are needed"),
        (["--recipe", "{recipe}"], "unknown key 'speed'"),
    ],
)
def test_bad_settings(
    arguments: list[object], message: str, cli: Cli, classifier: Path, texts_file: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    files = {
        "{csv}": ("a.csv", b"text\na b c\n"),
        "{empty}": ("empty.txt", b"\n \n"),
        "{columns}": ("columns.csv", b"a,b\n1,2\n"),
        "{latin}": ("latin.txt", "caf\u00e9".encode("latin-1")),
        "{short}": ("short.txt", b"good\nbad\n"),
        "{recipe}": ("recipe.yaml", b"speed: 3\n"),
    }
    for name, content in files.values():
        (tmp_path / name).write_bytes(content)
    given = [tmp_path / files[str(a)][0] if str(a) in files else a for a in arguments]
    defaults = {"--calibration": texts_file, "--shapes": "1x8"}
    others = [part for flag, value in defaults.items() if flag not in given for part in (flag, value)]
    refused(cli, capsys, tmp_path, message, "prune-and-build", classifier, *others, *given)


def test_a_pruned_checkpoint_is_not_pruned_again(
    cli: Cli, built: Outcome, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(
        cli,
        capsys,
        tmp_path,
        "is pruned already, by 50",
        "prune",
        built.output / "checkpoint",
        "--calibration",
        texts_file,
    )


def test_a_folder_with_something_else_is_left_alone(
    cli: Cli, classifier: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert cli("prune-and-build", classifier, "-o", tmp_path / "out", "--calibration", texts_file, *QUICK) == 2
    assert "holds 'notes.txt', which is not part of a bundle" in capsys.readouterr().err
    assert snapshot(tmp_path / "out") == {"notes.txt": b"mine"}


def test_bad_input_leaves_an_old_bundle_as_it_was(cli: Cli, built: Outcome, classifier: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(built.output, tmp_path / "bundle"))
    before = snapshot(bundle)
    assert cli("prune-and-build", classifier, "-o", bundle, "--calibration", tmp_path / "nowhere.txt") == 2
    assert cli("prune-and-build", classifier, "-o", bundle, "--flops-reduction", 7) == 2
    assert snapshot(bundle) == before


def test_errors_as_json(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("verify", tmp_path, "--json") == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 2
    assert "is not a finished bundle" in answer["error"]


def test_usage_errors_are_2(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("prune-and-build", "--no-such-flag") == 2
    assert "No such option" in capsys.readouterr().err
    assert cli("no-such-command") == 2
    assert cli("prune-and-build") == 2
    assert "'model' is missing: give it after the command's name" in capsys.readouterr().err
    assert cli("export", "-o", "out") == 2
    assert "Missing argument 'model'" in capsys.readouterr().err


def test_a_missing_runtime_is_5(
    cli: Cli,
    classifier: Path,
    texts_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["OtherExecutionProvider"])
    assert cli("export", classifier, "-o", tmp_path / "out", "--threads", 2) == 5
    assert "has no CPUExecutionProvider here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bug_is_1_and_says_how_to_see_it(
    cli: Cli, built: Outcome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bug(_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("kprune_export.bundle.verify.verify_bundle", bug)
    assert cli("verify", built.output) == 1
    err = capsys.readouterr().err
    assert "internal error, ZeroDivisionError: oops" in err
    assert "Traceback" not in err
    monkeypatch.setenv("KPRUNE_EXPORT_TRACEBACK", "1")
    cli("verify", built.output)
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_is_130_and_a_termination_143(
    cli: Cli, built: Outcome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kprune_export.bundle.verify.verify_bundle", interrupt)
    assert cli("verify", built.output) == 130
    interrupted = capsys.readouterr().err
    assert "run the same command again" in interrupted

    def terminate(_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("kprune_export.bundle.verify.verify_bundle", terminate)
    assert cli("verify", built.output, "--json") == 143
    ended = capsys.readouterr()
    assert ended.err == interrupted
    assert json.loads(ended.out)["exit_code"] == 143
    assert signal.getsignal(signal.SIGTERM) is handler
