"""What an attempt must not achieve: each check raises `Broken` where a promise was not kept."""

import hashlib
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import psutil

REFUSALS = (2,)
COMPLAINTS = (2, 3, 4, 5, 6)
"""Exit codes of bad input, failed gates and parity, missing runtimes and inconclusive gates."""
_SHOWN = 300


class Broken(Exception):  # noqa: N818 - what happened, and no error of this benchmark
    """A promise that an attempt broke, in words."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; negative: the signal that ended it; None: it had to be killed after the time limit.
        out: what it printed.
        err: what it printed on standard error.
        cpu_seconds: of processor time, its children included.
        peak_mib: the most resident memory, that of the imports included.

    """

    code: int | None
    out: str
    err: str
    cpu_seconds: float
    peak_mib: float

    @property
    def errors(self) -> list[str]:
        """The lines that begin with ``Error:``."""
        return [line for line in self.err.splitlines() if line.startswith("Error: ")]


def clean(ended: Ended, codes: tuple[int, ...] = (0,)) -> None:
    """Check that a command ended with one of some exit codes, with no traceback and no control characters."""
    if ended.code not in codes:
        said = (ended.errors or ended.err.strip().splitlines() or [""])[-1][:_SHOWN]
        raise Broken(f"exit code {ended.code}, where one of {codes} is right: {said}")
    for text, name in ((ended.out, "output"), (ended.err, "standard error")):
        if "Traceback (most recent call last)" in text or "Error: internal error" in text:
            raise Broken(f"a traceback or an internal error in its {name}: {text.strip().splitlines()[-1][:_SHOWN]}")
        printable(text, f"its {name}")


def refused(ended: Ended, *named: str, codes: tuple[int, ...] = REFUSALS) -> None:
    """Check that a command ended in one clear sentence.

    Args:
        ended: the command.
        *named: what the sentence must mention, in any case; a tuple's worth of alternatives is separated by ``|``.
        codes: the exit codes that are right.

    """
    clean(ended, codes)
    verdict = ended.code in (3, 4, 6) and not ended.errors  # a verdict, which is no error
    if ended.code != 0 and not verdict and len(ended.errors) != 1 and not _of_the_parser(ended):
        raise Broken(f"{len(ended.errors)} sentences in place of one: {ended.err.strip()[:_SHOWN]}")
    said = " ".join((ended.errors or [ended.err])[-1].split()).lower()
    for name in named:
        if not any(x.lower() in said for x in name.split("|")):
            raise Broken(f"the sentence does not mention {name!r}: {said[:_SHOWN]}")


def _of_the_parser(ended: Ended) -> bool:
    """Whether the parser of the command line refused, which frames its sentence."""
    return ended.code == 2 and ended.err.count("─ Error ─") == 1


def no_crash(ended: Ended) -> None:
    """Check that a command succeeded, or ended in one clear sentence."""
    refused(ended, codes=(0, *COMPLAINTS))


def printable(text: str, where: str) -> None:
    """Check that a text holds nothing that controls a terminal or turns the direction of text."""
    for character in text:
        if character in "\n\t\u200c\u200d":
            continue
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            raise Broken(f"the control character {character!r} in {where}")


def snapshot(*places: Path) -> dict[str, str]:
    """Return what lies at and under some places: hashes of files, targets of links, kinds of other things."""
    found = {}
    for place in places:
        for path in [place, *sorted(place.rglob("*"))] if place.is_dir() and not place.is_symlink() else [place]:
            if path.is_symlink():
                found[str(path)] = f"link to {path.readlink()}"
            elif not path.exists():
                found[str(path)] = "nothing"
            elif path.is_file():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[str(path)] = str(stat.S_IFMT(path.stat().st_mode))
    return found


def unchanged(before: dict[str, str], *places: Path) -> None:
    """Check that places are unchanged."""
    after = snapshot(*places)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    if changed:
        raise Broken(f"changed, made or removed: {', '.join(sorted(changed)[:3])}")


def absent(*places: Path) -> None:
    """Check that nothing is at some places: no output, no mark of code that was run."""
    for place in places:
        if place.exists() or place.is_symlink():
            raise Broken(f"{place.name} is there")


def files_without(folder: Path, *texts: str) -> None:
    """Check that no file of a folder holds one of some texts, as secrets and local paths are."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            for text in texts:
                if text.encode() in content:
                    raise Broken(f"{path.relative_to(folder)} holds {text!r}")


def permissions(folder: Path, forbidden: int) -> None:
    """Check that no file of a folder has one of some permissions."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) & forbidden:
            raise Broken(f"{path.relative_to(folder)} has the mode {stat.S_IMODE(path.stat().st_mode):o}")


def cheap(ended: Ended, cpu_seconds: float, extra_mib: float, base_mib: float) -> None:
    """Check that a command was done with little: processor seconds, and memory beyond that of the imports."""
    if ended.cpu_seconds > cpu_seconds:
        raise Broken(f"it took {ended.cpu_seconds:.0f} seconds of processor time")
    if ended.peak_mib > base_mib + extra_mib:
        raise Broken(f"it took {ended.peak_mib - base_mib:.0f} MiB of memory")


def nothing_runs() -> None:
    """Check that no process that this one has started, at any depth, is left; end those that are."""
    left = psutil.Process().children(recursive=True)
    _, left = psutil.wait_procs([x for x in left if x.status() != psutil.STATUS_ZOMBIE], timeout=5)
    names = [" ".join(process.cmdline()[:4]) for process in left if process.is_running()]
    for process in left:
        process.kill()
    if names:
        raise Broken(f"{len(names)} processes are left over: {names[0][:_SHOWN]}")


def mentions(text: str, *names: str) -> None:
    """Check that a text mentions something, in any case and across lines; alternatives are separated by ``|``."""
    said = " ".join(text.split()).lower()
    for name in names:
        if not any(x.lower() in said for x in name.split("|")):
            raise Broken(f"it does not say {name!r}: {said[-_SHOWN:]}")
