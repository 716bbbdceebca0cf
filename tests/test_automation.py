"""What other tools read: the GitHub Action, the GitLab component, the container recipe, and the pre-commit hooks."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml

from kprune_export.bundle.verdict import Verdict
from kprune_export.cli.app import app

ROOT = Path(__file__).parents[1]
ACTION, COMPONENT, DOCKERFILE = ROOT / "action.yml", ROOT / "templates" / "prune.yml", ROOT / "Dockerfile"


def action() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    return parsed


def component() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the component declares, and its jobs with the defaults put in, as GitLab does."""
    text = COMPONENT.read_text(encoding="utf-8")
    header, jobs = yaml.safe_load_all(text)
    inputs = header["spec"]["inputs"]
    body = text.split("\n---\n", 1)[1]
    for name, declared in inputs.items():
        assert declared["description"].endswith(".")
        body = body.replace(f"$[[ inputs.{name} ]]", str(declared["default"]))
    assert "$[[" not in body
    assert isinstance(jobs, dict)
    return inputs, yaml.safe_load(body)


def scripts() -> Iterator[tuple[str, str]]:
    for step in action()["runs"]["steps"]:
        if "run" in step:
            yield step["name"], step["run"]
    for name, job in component()[1].items():
        yield name, "\n".join(job["script"])


@pytest.mark.parametrize(("name", "script"), list(scripts()), ids=lambda value: value if " " not in value else "")
def test_scripts_use_options_that_exist(name: str, script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, capture_output=True)
    assert "${{" not in script  # inputs reach a script as environment variables, never as text of the script
    group: Any = typer.main.get_command(app)
    for command in re.findall(r"kprune-export ([a-z-]+)", script):
        known = {option for parameter in group.commands[command].params for option in parameter.opts}
        lines = [line for line in script.splitlines() if "pip install" not in line]
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", "\n".join(lines))) <= known


def test_the_action_is_complete() -> None:
    parsed = action()
    assert parsed["runs"]["using"] == "composite"
    text = ACTION.read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([a-z-]+)", text)) == set(parsed["inputs"])
    for entry in (*parsed["inputs"].values(), *parsed["outputs"].values()):
        assert entry["description"]
    for step in parsed["runs"]["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert "run" not in step or step["shell"] == "bash"
    for verdict in get_args(Verdict):
        assert verdict in parsed["outputs"]["verdict"]["description"]


def test_the_component_is_complete() -> None:
    inputs, jobs = component()
    (job,) = jobs.values()
    assert set(re.findall(r"inputs\.([a-z]+) \]\]", COMPONENT.read_text(encoding="utf-8"))) == set(inputs)
    assert job["artifacts"]["reports"]["junit"] == "kprune-results.xml"
    assert job["artifacts"]["paths"] == [inputs["output"]["default"]]


@pytest.mark.slow
@pytest.mark.parametrize(("gate", "code", "verdict"), [(0.01, 0, "passed"), (1.0, 3, "failed")])
def test_the_action_builds_and_gates(
    gate: float, code: int, verdict: str, classifier: Path, make_sentences: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(make_sentences(120)), encoding="utf-8")
    recipe = {"model": str(classifier), "calibration": "texts.txt", "samples": 80, "held_out": 40, "shapes": ["1x8"]}
    (tmp_path / "recipe.yaml").write_text(json.dumps({**recipe, "timing_seconds": 0.1, "flops_reduction": 0.9}))
    (tmp_path / "gates.yaml").write_text(f"min_agreement: {gate}")
    (step,) = (x for x in action()["runs"]["steps"] if x.get("id") == "build")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "outputs"),
        "RECIPE": "recipe.yaml",
        "GATES": "gates.yaml",
        "OUTPUT": "bundle",
        "JUNIT": "results.xml",
    }
    environment.pop("GITHUB_STEP_SUMMARY", None)
    done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", step["run"]], cwd=tmp_path, env=environment)
    assert done.returncode == code
    assert (tmp_path / "outputs").read_text().splitlines() == [f"verdict={verdict}", f"exit-code={code}"]
    assert (tmp_path / "bundle" / "manifest.json").is_file()
    assert (tmp_path / "results.xml").is_file()


def test_the_container_recipe_passes_its_linter() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("needs hadolint: the extra dev installs it on Linux and x86-64")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_images_do_not_run_as_root() -> None:
    stages = re.split(r"^FROM .+ AS ", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    targets = {name: rest for name, _, rest in (stage.partition("\n") for stage in stages)}
    for target in ("cpu", "gpu"):
        assert re.search(r"^USER 10001$", targets[target], re.MULTILINE)
    writable = re.findall(r"(?:HOME|HF_HOME|MPLCONFIGDIR|XDG_\w+)=(\S+)", targets["runtime"])
    assert len(writable) == 5
    assert all(path.startswith("/tmp") for path in writable)


def test_the_container_gets_all_that_the_build_needs() -> None:
    kept = {x[1:] for x in (ROOT / ".dockerignore").read_text().splitlines() if x.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY ((?!--from).+)$", DOCKERFILE.read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in kept)


def test_hooks_have_the_versions_of_the_constraints() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    revisions = {repository["repo"].rpartition("/")[2]: repository.get("rev") for repository in hooks["repos"]}
    assert revisions["ruff-pre-commit"] == f"v{pinned['ruff']}"
    assert revisions["codespell"] == f"v{pinned['codespell']}"
    names = {hook["id"] for repository in hooks["repos"] for hook in repository["hooks"]}
    assert {"ruff-check", "ruff-format", "codespell", "check-yaml", "end-of-file-fixer", "mypy"} <= names
