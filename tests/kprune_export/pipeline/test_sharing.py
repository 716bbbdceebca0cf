import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from kprune_export.errors import ExitCode
from pruning.plan import PruningPlan

PRUNE = ["-m", "kprune_export", "prune", "--sequence-length", "16", "--device", "cpu"]


def run(arguments: list[str], processes: int = 0) -> subprocess.CompletedProcess[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *torchrun, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


@pytest.mark.parametrize(
    ("method", "reduction"), [("kprune", 0.6), ("kprune-paper", 0.6), ("kwon2022", 0.6), ("kcm2023", 0.3)]
)
def test_two_processes_write_the_plan_of_one(
    method: str, reduction: float, classifier: Path, texts_file: Path, tmp_path: Path
) -> None:
    arguments = [*PRUNE, str(classifier), "--calibration", str(texts_file), "--method", method]
    arguments += ["--flops-reduction", str(reduction)]
    alone = run([*arguments, "-o", str(tmp_path / "one"), "--threads", "1"])
    shared = run([*arguments, "-o", str(tmp_path / "two"), "--threads", "1", "--json"], processes=2)
    assert alone.returncode == shared.returncode == 0, shared.stderr
    assert json.loads(shared.stdout)  # one process prints, and only once
    one, two = (PruningPlan.read(tmp_path / name / "plan.json") for name in ("one", "two"))
    assert one == two
    weights = [load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("one", "two")]
    for name, value in weights[0].items():
        assert float((value - weights[1][name]).abs().max()) <= 1e-4 * float(value.abs().max()), name


def test_an_error_ends_all_processes(classifier: Path, texts_file: Path, tmp_path: Path) -> None:
    arguments = [*PRUNE, str(classifier), "--calibration", str(texts_file), "-o", str(tmp_path / "out")]
    failed = run([*arguments, "--method", "taylor"], processes=2)
    assert failed.returncode != 0
    assert failed.stderr.count("Error: There is no pruning method 'taylor'") == 1
    assert f"exitcode  : {ExitCode.BAD_INPUT.value}" in failed.stderr
    assert not (tmp_path / "out").exists()


def test_a_comparison_is_helped_too(classifier: Path, texts_file: Path, tmp_path: Path) -> None:
    """Also where a method refuses one rate and the next run needs the other process again."""
    arguments = ["-m", "kprune_export", "compare", str(classifier), "--calibration", str(texts_file)]
    arguments += ["--sequence-length", "16", "--device", "cpu", "--methods", "kcm2023,kwon2022", "--rates", "0.3,0.5"]
    found = {}
    for name, processes in (("one", 0), ("two", 2)):
        ran = run([*arguments, "-o", str(tmp_path / name), "--threads", "1"], processes)
        assert ran.returncode == 0, ran.stderr
        comparison = json.loads((tmp_path / name / "compare.json").read_text())
        found[name] = [x["measured"] and x["measured"]["layers"] for x in comparison["cells"]]
    assert found["one"] == found["two"]
    assert [x is None for x in found["two"]] == [False, True, False, False]


DIFFERENT_MODELS = """
import os, sys
from pathlib import Path
from kprune_export.pipeline.distributed import PruningTask, follow, helped, process_group
from pruning import load_checkpoint
from pruning.errors import CheckpointError
from pruning.settings import PruningSettings

os.chdir(sys.argv[1 + int(os.environ["RANK"])])
with process_group() as first:
    if first:
        task = PruningTask(
            model="model",
            source=load_checkpoint("model").identity,
            allow_pickle=False,
            pooling=None,
            texts=(),
            settings=PruningSettings(flops_reduction=0.5),
            device="cpu",
            offload=False,
            journal="journal",
        )
        try:
            with helped(task):
                print("it was pruned")
        except CheckpointError as error:
            print(error)
    else:
        follow()
    sys.stdout.flush()
    os._exit(0)  # gloo may abort while Python finalises: pytorch issue 190489
"""


def test_processes_that_find_different_models_prune_nothing(classifier: Path, tmp_path: Path) -> None:
    """As where a training job overwrites the weights between two processes' loading."""
    for name in ("one", "two"):
        shutil.copytree(classifier, tmp_path / name / "model")
    weights = load_file(tmp_path / "two" / "model" / "model.safetensors")
    changed = {name: 1.1 * x for name, x in weights.items()}
    save_file(changed, tmp_path / "two" / "model" / "model.safetensors", {"format": "pt"})
    (tmp_path / "script.py").write_text(DIFFERENT_MODELS)
    found = run([str(tmp_path / "script.py"), str(tmp_path / "one"), str(tmp_path / "two")], processes=2)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("1 of 2 processes could not load model as the first one has it")
