"""YAML files of settings: recipes and gates."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from kprune_export.errors import RecipeError

LARGEST_BYTES = 2**16
"""Of a file of settings, which is read whole."""
_MANY = 20
"""So many keys are not listed in a message."""
DEEPEST = 8
"""How deeply values may be nested; settings are lists at most."""


def read_settings(file: Path, kind: str, known: Sequence[str]) -> dict[str, Any]:
    """Read a mapping of settings to values; an empty file holds none.

    Args:
        file: the file.
        kind: what it is called in messages.
        known: the keys that it may have.

    Raises:
        RecipeError: it cannot be read, is not a YAML mapping, or has unknown keys, which are all named.

    """
    values = _read(file, kind)
    if unknown := sorted(set(values) - set(known)):
        found = ", ".join(with_suggestion(key, known) for key in unknown)
        word = "the unknown key" if len(unknown) == 1 else "unknown keys,"
        where = (
            f"known are {', '.join(known)}" if len(known) < _MANY else "kprune-export prune-and-build --help has all"
        )
        raise RecipeError(f"The {kind} {file} has {word} {found}: {where}.")
    return values


class _Loader(yaml.SafeLoader):
    """YAML's safe subset without what settings have no use for: merge keys, the same key twice, deep nesting.

    A merge key copies other mappings, and a few lines of them can make gigabytes.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a value.

        Raises:
            ConstructorError: it is nested too deeply.

        """
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.constructor.ConstructorError(None, None, f"values are nested more than {DEEPEST} deep", None)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse merge keys and repeated ones, before a mapping is made.

        Raises:
            ConstructorError: there is one.

        """
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, "merge keys (<<) are not read: write the settings out", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value[:80]!r} is there twice", key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")


def _read(file: Path, kind: str) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise RecipeError(
                f"The {kind} {file} is larger than {LARGEST_BYTES >> 10} KiB, so it holds more than settings."
            )
        values = yaml.load(content.decode("utf-8-sig"), _Loader)  # noqa: S506 - a safe loader
    except OSError as error:
        raise RecipeError(f"The {kind} {file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # numbers and dates that are none
        raise RecipeError(f"The {kind} {file} is not YAML: {' '.join(str(error).split())}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise RecipeError(f"The {kind} {file} is not a mapping of settings to values.")
    return values


def with_suggestion(key: str, known: Sequence[str]) -> str:
    """Return an unknown key, quoted, with the known one that it is most like."""
    typed = key.replace("-", "_")
    longer = [name for name in known if name.startswith(typed)]  # cut short is likelier than misspelt
    likely = longer or difflib.get_close_matches(typed, known, n=1, cutoff=0.5)
    return repr(key) + (f" (did you mean {likely[0]!r}?)" if likely else "")
