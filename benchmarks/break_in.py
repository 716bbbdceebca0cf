"""Try to break what the product promises, over its command line, and count what was survived.

    python benchmarks/break_in.py --json attempts.json --markdown attempts.md

The attempts are in the folder break_in_attempts: each prepares an input with a tiny BERT in a folder of its own, runs
commands, and checks what they did to files, what they printed, and with which exit codes they ended. Commands run in
processes that are forked from one with all imports, but where an attempt is about how a process is started. The exit
code is 1 if an attempt was not survived.
"""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

_PROJECT = Path(__file__).parents[1]
sys.path[:0] = [str(_PROJECT), str(_PROJECT / "benchmarks"), str(_PROJECT / "tests")]

import psutil  # noqa: E402
from break_in_attempts.checks import Broken, nothing_runs  # noqa: E402
from break_in_attempts.scene import QUICK, Attempt, Kind, Materials, Scene, run_command  # noqa: E402

SUBJECTS = {
    "user_files": "The user's files",
    "writing_where_it_reads": "Writing where it reads",
    "other_models": "Results about another model",
    "other_texts": "Results about other texts and labels",
    "bundles": "Bundles that are not what they say",
    "foreign_code": "Code that comes with a checkpoint",
    "secrets": "What leaves the machine",
    "shown_text": "What is shown",
    "checkpoints": "Checkpoints that do not work",
    "recipes": "Recipes, texts and tables",
    "numbers": "Numbers",
    "surroundings": "How a process is started and ended",
    "served_texts": "Served texts",
}
"""The modules of the folder break_in_attempts, and what they are about."""
_LONGEST_ATTEMPT = 900


@dataclass(frozen=True)
class Result:
    """What an attempt came to.

    Attributes:
        subject: its subject.
        kind: its kind.
        attempt: its name.
        survived: whether the product kept what it promises.
        why: what was broken; empty where it survived.
        seconds: how long it took.

    """

    subject: str
    kind: str
    attempt: str
    survived: bool
    why: str
    seconds: float


def subjects() -> dict[str, tuple[Kind, ...]]:
    """Return the kinds of each subject."""
    return {title: importlib.import_module(f"break_in_attempts.{module}").KINDS for module, title in SUBJECTS.items()}


def outcome_of(attempt: Attempt, scene: Scene) -> str:
    """Try an attempt and return what it broke; nothing if it was survived."""
    try:
        attempt.act(scene)
        nothing_runs()
    except Broken as broken:
        return str(broken)
    except Exception:
        return f"the attempt itself failed: {traceback.format_exc(limit=-3)}"
    return ""


class _Running:
    """An attempt in a process of its own."""

    def __init__(self, subject: str, kind: Kind, attempt: Attempt, made: Materials, folder: Path) -> None:
        self.subject, self.kind, self.attempt, self.folder = subject, kind, attempt, folder
        self.begin = time.monotonic()
        folder.mkdir()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                scene = Scene(folder, made, psutil.Process().memory_info().rss / 2**20)
                (folder / ".why").write_text(outcome_of(attempt, scene), encoding="utf-8", errors="backslashreplace")
            finally:
                os._exit(0)

    def result(self) -> Result | None:
        """Return what it came to, once it has ended."""
        seconds = time.monotonic() - self.begin
        if seconds > _LONGEST_ATTEMPT:
            for process in psutil.Process(self.pid).children(recursive=True):
                process.kill()
            os.kill(self.pid, 9)
        if not os.waitpid(self.pid, os.WNOHANG)[0]:
            return None
        why = self.folder / ".why"
        said = why.read_text(encoding="utf-8") if why.exists() else "the attempt took too long, or was ended"
        shutil.rmtree(self.folder, ignore_errors=True)
        return Result(self.subject, self.kind.name, self.attempt.name, not said, said, round(seconds, 2))


def attempts_of(chosen: dict[str, tuple[Kind, ...]]) -> list[tuple[str, Kind, Attempt]]:
    """Return all attempts of some kinds."""
    return [(subject, kind, x) for subject, kinds in chosen.items() for kind in kinds for x in kind.attempts]


def known_results(path: Path | None, chosen: dict[str, tuple[Kind, ...]]) -> list[Result]:
    """Return the results of an earlier run, which was stopped for example, as far as they are of attempts there are."""
    if path is None or not path.exists():
        return []
    names = {(subject, kind.name, attempt.name) for subject, kind, attempt in attempts_of(chosen)}
    found = [Result(**x) for x in json.loads(path.read_text(encoding="utf-8"))]
    return [x for x in found if (x.subject, x.kind, x.attempt) in names]


def keep_results(path: Path, results: list[Result]) -> None:
    """Write results to a file, which is whole at any moment."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps([asdict(x) for x in results], indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def run_all(
    chosen: dict[str, tuple[Kind, ...]], made: Materials, jobs: int, done: Container[tuple[str, str, str]] = ()
) -> Iterator[Result]:
    """Try all attempts but those that are done, some of them at a time."""
    waiting = [x for x in attempts_of(chosen) if (x[0], x[1].name, x[2].name) not in done]
    running: list[_Running] = []
    for number, (subject, kind, attempt) in enumerate(waiting):
        running.append(_Running(subject, kind, attempt, made, made.folder.parent / f"attempt-{number}"))
        while len(running) >= (jobs if number + 1 < len(waiting) else 1):
            for one in tuple(running):
                found = one.result()
                if found is not None:
                    running.remove(one)
                    yield found
            time.sleep(0.01)


def make_materials(folder: Path) -> Materials:
    """Make what attempts are tried with: two tiny models, a bundle, a repository, an export, a key."""
    import torch
    from tiny_models import WORDS, declare_pooling, save_tiny

    folder.mkdir()
    made = Materials(folder)
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 20, (300,), generator=generator).tolist()
    picks = [torch.randint(0, len(WORDS), (length,), generator=generator).tolist() for length in lengths]
    made.texts.write_text("\n".join(" ".join(WORDS[i] for i in pick) for pick in picks), encoding="utf-8")
    save_tiny(made.classifier)
    save_tiny(made.embedder, head="")
    declare_pooling(made.embedder, "mean")
    curve = ("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(made.key))
    subprocess.run(["openssl", *curve], check=True, capture_output=True)
    public = ("ec", "-in", str(made.key), "-pubout", "-out", str(folder / "public.pem"))
    subprocess.run(["openssl", *public], check=True, capture_output=True)
    texts = ("--calibration", made.texts)
    for command in (
        ("prune-and-build", made.classifier, "-o", made.bundle, *texts, *QUICK),
        ("export", made.classifier, "-o", made.exported, "--threads", 1),
        ("triton", made.bundle, "--backend", "python", "-o", made.repository),
    ):
        ended = run_command([*map(str, command)], folder)
        if ended.code:
            raise RuntimeError(f"{command[0]} ended with {ended.code}: {ended.err}")
    return made


def preload() -> None:
    """Import what commands import, on one thread, so that they can be forked."""
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401
    import torch
    import torch.onnx
    import transformers.models.bert.modeling_bert
    import transformers.models.bert.tokenization_bert  # noqa: F401

    import kprune_export.cli.app
    import kprune_export.cli.running
    import kprune_export.pipeline.run
    import kprune_export.report.render  # noqa: F401

    torch.set_num_threads(1)


def table(results: list[Result]) -> str:
    """Return the table of the subjects, in Markdown."""
    lines = ["| subject | kinds | attempts | survived |", "|---|---|---|---|"]
    order = list(SUBJECTS.values())
    for subject in sorted({x.subject for x in results}, key=lambda x: order.index(x) if x in order else len(order)):
        own = [x for x in results if x.subject == subject]
        lines.append(f"| {subject} | {len({x.kind for x in own})} | {len(own)} | {sum(x.survived for x in own)} |")
    kinds = len({(x.subject, x.kind) for x in results})
    lines.append(f"| all | {kinds} | {len(results)} | {sum(x.survived for x in results)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Try the attempts; the exit code is 1 if one was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORDS", help="only kinds with these words in subject or name")
    parser.add_argument("--list", action="store_true", help="list kinds and attempts, and try none")
    parser.add_argument("--jobs", type=int, default=2, help="attempts at a time")
    parser.add_argument("--json", type=Path, help="a file for all results; those in it are not tried again")
    parser.add_argument("--markdown", type=Path, help="a file for the table")
    options = parser.parse_args()
    words = options.only.lower()
    chosen = {
        subject: tuple(x for x in kinds if words in f"{subject}: {x.name}".lower())
        for subject, kinds in subjects().items()
    }
    if options.list:
        for subject, kinds in chosen.items():
            for kind in kinds:
                print(f"{subject}: {kind.name} ({kind.right}): {', '.join(x.name for x in kind.attempts)}")
        return 0
    results = known_results(options.json, chosen)
    done = {(x.subject, x.kind, x.attempt) for x in results}
    with tempfile.TemporaryDirectory(prefix="break-in-") as temporary:
        home = Path(temporary, "home")
        home.mkdir()
        os.environ.update(
            HOME=str(home), XDG_STATE_HOME=str(home / "state"), HF_HOME=str(home / "hf"), HF_HUB_OFFLINE="1",
            OMP_WAIT_POLICY="PASSIVE", COLUMNS="200",
        )  # fmt: skip
        preload()
        made = make_materials(Path(temporary, "made"))
        for result in run_all(chosen, made, options.jobs, done):
            results.append(result)
            if options.json:
                keep_results(options.json, results)
            if not result.survived:
                print(f"NOT SURVIVED: {result.subject}: {result.kind}: {result.attempt}: {result.why}", flush=True)
    if options.markdown:
        options.markdown.write_text(table(results), encoding="utf-8")
    print(table(results))
    return 0 if all(x.survived for x in results) else 1


if __name__ == "__main__":
    sys.exit(main())
