"""Import path of this process and of the Python processes that it starts: without the working directory.

``python -m`` puts the working directory before the standard library. Where that is a downloaded checkpoint, a file in
it that has the name of a module would run. This module itself imports only what Python has loaded when it starts, so
that it can be the first one that is imported.
"""

# ruff: noqa: PTH100, PTH109, PTH117, PTH120 - pathlib is not loaded yet
import os
import sys

_PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The folder that holds this project's packages."""
_STANDARD_LIBRARY = os.path.dirname(os.__file__)


def without_working_directory(path: list[str]) -> list[str]:
    """Return the entries of an import path without the working directory, all absolute.

    Only what comes before the standard library is looked at: what follows it was installed, and can replace nothing.
    The working directory stays where ``PYTHONPATH`` names it by its absolute path, which does not happen by accident.
    The folder of this project's packages comes last where it would otherwise be missing, as in a checkout that is used
    from inside of it without being installed.
    """
    standard = path.index(_STANDARD_LIBRARY) if _STANDARD_LIBRARY in path else len(path)
    named = {entry for entry in _python_path() if os.path.isabs(entry)}
    kept = [entry for entry in path[:standard] if entry in named or not _is_working_directory(entry)] + path[standard:]
    return list(dict.fromkeys(os.path.abspath(entry) for entry in (*kept, _PROJECT)))


def leave_working_directory() -> None:
    """Import nothing from the working directory from now on, here and in every Python process started from here.

    ``PYTHONSAFEPATH`` also reaches the processes that libraries start:
    https://docs.python.org/3/using/cmdline.html#envvar-PYTHONSAFEPATH.
    """
    sys.path[:] = without_working_directory(sys.path)
    os.environ["PYTHONSAFEPATH"] = "1"
    if given := _python_path():
        entries = [x for x in given if os.path.isabs(x) or not _is_working_directory(x)]
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, entries))


def python_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module in a process of its own; its environment is `python_environment`."""
    return (sys.executable, "-P", "-m", module, *arguments)


def python_environment() -> dict[str, str]:
    """Return the environment of a process that finds what this one can import, but for the working directory."""
    path = os.pathsep.join(without_working_directory(sys.path))
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": path}


def _python_path() -> list[str]:
    given = os.environ.get("PYTHONPATH")
    return given.split(os.pathsep) if given else []


def _is_working_directory(entry: str) -> bool:
    try:
        return not entry or os.path.realpath(entry) == os.path.realpath(os.getcwd())
    except OSError:  # it has been removed
        return not os.path.isabs(entry)
