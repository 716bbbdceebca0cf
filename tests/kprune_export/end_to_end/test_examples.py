"""The examples: their files are parsed, their scripts by bash, and their commands by the command line's own parser."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from project_root import ROOT
from typer.core import TyperGroup

from kprune_export.cli.app import app
from kprune_export.recipe.gates import GATE_NAMES
from kprune_export.recipe.recipe import Recipe, read_gates

EXAMPLES = ROOT / "examples"
WORKFLOWS = ("02-ci/github-actions.yml", "02-ci/gitlab-ci.yml")
SCRIPTS = ("01-command-line/run.sh", "03-triton/serve.sh")


def texts(value: Any, key: str = "") -> Iterator[str]:
    """All shell scripts of a workflow: what is under the keys run, script and before_script."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from texts(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, key)
    elif isinstance(value, str) and key in ("run", "script", "before_script"):
        yield value


def commands(script: str) -> Iterator[list[str]]:
    """The arguments of every kprune-export in a script, up to a redirection or an operator."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        if words and words[0] == "kprune-export":
            end = next((n for n, word in enumerate(words) if set(word) <= set("<>|&;()")), len(words))
            yield words[1:end]


def parse(arguments: list[str]) -> dict[str, Any]:
    """Let the command line parse arguments, without running anything; errors as it raises them."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    with group.make_context("kprune-export", list(arguments)) as outer:
        name, command, rest = group.resolve_command(outer, arguments)
        assert command is not None
        with command.make_context(name, rest, parent=outer) as inner:
            return inner.params


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_command_is_accepted(name: str) -> None:
    workflow = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    scripts = list(texts(workflow))
    found = [command for script in scripts for command in commands(script)]
    assert {"prune-and-build", "diff", "sign"} <= {command[0] for command in found}
    for command in found:
        parse(command)
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True, capture_output=True)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_command_of_a_script_is_accepted(name: str) -> None:
    path = EXAMPLES / name
    script = path.read_text(encoding="utf-8")
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True, capture_output=True)
    found = [command for line in script.splitlines() for command in commands(line)]
    assert len(found) >= 2
    for command in found:
        parse(command)


def test_folders_are_numbered_and_listed() -> None:
    folders = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    assert [int(name[:2]) for name in folders] == list(range(1, len(folders) + 1))
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}]({name})" in index for name in folders)


def test_the_client_names_a_model_of_the_repository() -> None:
    client = (EXAMPLES / "03-triton" / "client.py").read_text(encoding="utf-8")
    compile(client, "client.py", "exec")
    (command,) = (x for x in commands((EXAMPLES / SCRIPTS[1]).read_text(encoding="utf-8")) if x[0] == "triton")
    assert f'MODEL = "{parse(command)["name"]}-onnxruntime-fp32-text"' in client


def test_a_command_that_is_not_accepted_is_found() -> None:
    assert list(commands("  kprune-export diff a \\\n  b --markdown > c\nother\n")) == [
        ["diff", "a", "b", "--markdown"]
    ]
    parsed = parse(["diff", "a", "b", "--markdown"])
    assert (parsed["before"], parsed["after"], parsed["markdown"]) == (Path("a"), Path("b"), True)
    for wrong in (["diff", "a", "b", "--markdwn"], ["diff", "a"], ["difff", "a", "b"], ["sign", "a"]):
        with pytest.raises(Exception, match=r"No such|Missing"):
            parse(wrong)


def test_jobs_are_complete() -> None:
    github = yaml.safe_load((EXAMPLES / WORKFLOWS[0]).read_text(encoding="utf-8"))
    assert True in github  # the key "on", as YAML 1.1 reads it
    for step in github["jobs"]["bundle"]["steps"]:
        assert ("uses" in step) != ("run" in step)
    gitlab = yaml.safe_load((EXAMPLES / WORKFLOWS[1]).read_text(encoding="utf-8"))
    jobs = {name: job for name, job in gitlab.items() if isinstance(job, dict) and "script" in job}
    assert {job["stage"] for job in jobs.values()} == set(gitlab["stages"])
    assert jobs["bundle"]["artifacts"]["reports"]["junit"] == "results.xml"


def test_the_recipe_and_the_gates_are_valid() -> None:
    gates = read_gates(EXAMPLES / "01-command-line" / "gates.yaml")
    assert set(gates) <= set(GATE_NAMES)
    recipe = Recipe.build(EXAMPLES / "01-command-line" / "recipe.yaml", {"output": "bundle", **gates})
    assert recipe.min_speedup == 1.5
