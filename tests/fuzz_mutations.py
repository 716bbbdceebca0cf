"""Damaged and hostile files, drawn by Hypothesis: bytes changed anywhere, JSON and YAML in what they say.

``KPRUNE_FUZZ_EXAMPLES`` sets how many files of each kind a test tries.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from kprune_export.errors import ExitCode

EXAMPLES = int(os.environ.get("KPRUNE_FUZZ_EXAMPLES", "12"))
COMPLAINTS = {ExitCode.OK, ExitCode.BAD_INPUT, ExitCode.PARITY_FAILED, ExitCode.RUNTIME_MISSING}
"""All exit codes that a bad file may lead to: an internal error is none of them."""
VERDICTS = {ExitCode.GATE_FAILED, ExitCode.INCONCLUSIVE}
"""Those of a changed recipe, or record of a sweep, that is still a good one: what it asks for is evaluated."""
CANARY = "canary"
"""The name of a folder beside the fuzzed one, which nothing may touch."""
_DEPTHS = (500, 20_000)

_RAW = (
    b"\x00",
    b"\xff\xfe",
    b"\n",
    b'"',
    b"{",
    b"]",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"9" * 5000,
    b"\xef\xbb\xbf",
    b"&a *a ",
)


fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 12,
    database=None,
    report_multiple_bugs=False,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@st.composite
def changed_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return bytes cut short, with bits flipped, with bytes put in or taken out, or in another encoding."""
    kind = draw(st.sampled_from(("cut", "flip", "insert", "remove", "encode", "repeat", "replace")))
    place = draw(st.integers(0, max(0, len(whole) - 1)))
    if kind == "cut":
        return whole[:place]
    if kind == "flip":
        changed = bytearray(whole)
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, len(whole) - 1))
            changed[at] ^= 1 << draw(st.integers(0, 7))
        return bytes(changed)
    if kind == "insert":
        return whole[:place] + draw(st.one_of(st.sampled_from(_RAW), st.binary(max_size=20))) + whole[place:]
    if kind == "remove":
        return whole[:place] + whole[place + draw(st.integers(1, 40)) :]
    if kind == "encode":
        text = whole.decode("utf-8", "replace")
        return text.encode(draw(st.sampled_from(("utf-16", "utf-32", "utf-8-sig", "utf-7"))), "replace")
    if kind == "repeat":
        return whole + whole[place:]
    return draw(st.sampled_from((b"", b"null", b"[]", b"3", b'"text"', b"\x00" * 64, b"[" * 30_000, b'{"a":' * 30_000)))


def hostile_values(outside: str) -> st.SearchStrategy[Any]:
    """Return values that a field may not be prepared for; ``outside`` is the path of a folder that is not its own."""
    names = (
        f"../{CANARY}", f"../{CANARY}/precious.txt", f"../../{CANARY}", outside, f"{outside}/precious.txt", "..", ".",
        "/", "a/../../b", "", " ", "\x00", "a\nb", "\ud800", "[red]x[/]", "<script>x</script>", "x" * 5000, "auto",
        "file:///etc/passwd", "~", "$HOME", "con.txt:stream", "__class__",
    )  # fmt: skip
    numbers = (
        0, -1, 1, 2, 3, 7, 2**31, 2**63, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e-320, 1e308, float("nan"),
        float("inf"), float("-inf"),
    )  # fmt: skip
    odd = (None, True, False, [], {}, [[]], [None], {"": None}, [1, "a"], {"a": {"b": []}}, ["a"] * 500)
    return st.sampled_from((*names, *numbers, *odd))


@st.composite
def changed_values(draw: st.DrawFn, whole: Any, outside: str, only: Sequence[str] = ()) -> Any:
    """Return a nest of lists and dictionaries with one to three places deleted, replaced, added or renamed.

    Args:
        draw: Hypothesis's.
        whole: the values.
        outside: as in `hostile_values`.
        only: where given, a change begins at one of these keys of the topmost dictionary.

    """
    changed = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        if not isinstance(changed, dict | list) or not changed:
            return changed
        parent, key = changed, None
        while isinstance(parent, dict | list) and parent:
            keys = sorted(parent) if isinstance(parent, dict) else list(range(len(parent)))
            first = [name for name in only if name in keys] if parent is changed else []
            key = draw(st.sampled_from(first or keys))
            below = parent[key]
            if not isinstance(below, dict | list) or not below or draw(st.integers(0, 3)) == 0:
                break
            parent = below
        value = draw(hostile_values(outside))
        match draw(st.sampled_from(("delete", "replace", "replace", "replace", "add", "rename", "nest"))):
            case "delete":
                del parent[key]
            case "replace":
                parent[key] = value
            case "nest":
                parent[key] = [parent[key]]
            case "add" if isinstance(parent, dict):
                parent["another"] = value
            case "rename" if isinstance(parent, dict):
                parent[str(value)] = parent.pop(key)
            case _:
                parent.append(value) if isinstance(parent, list) else None
    return changed


@st.composite
def changed_json(draw: st.DrawFn, whole: bytes, outside: str, only: Sequence[str] = ()) -> bytes:
    """Return a JSON file's bytes, changed as a text or by its values; keys may be there twice, or nest deeply."""
    if draw(st.integers(0, 3)) == 0:
        return draw(changed_bytes(whole))
    text = json.dumps(draw(changed_values(json.loads(whole), outside, only)), indent=2)
    match draw(st.sampled_from(("plain", "plain", "plain", "twice", "deep", "long number"))):
        case "twice" if '": ' in text:
            lines = [line for line in text.splitlines() if '": ' in line and line.endswith(",")]
            line = draw(st.sampled_from(lines)) if lines else ""
            text = text.replace(line, line + line, 1)
        case "deep" if '": ' in text:
            depth = draw(st.sampled_from(_DEPTHS))
            text = text.replace('": ', '": ' + "[" * depth + "]" * depth + ', "x": ', 1)
        case "long number" if '": ' in text:
            text = text.replace('": ', '": ' + "1" * 5000 + ', "x": ', 1)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def changed_yaml(draw: st.DrawFn, whole: bytes, outside: str) -> bytes:
    """Return a YAML file's bytes, changed as a text or by its values, tags and aliases among them."""
    if draw(st.integers(0, 2)) == 0:
        return draw(changed_bytes(whole))
    values = draw(changed_values(yaml.safe_load(whole), outside))
    text = yaml.safe_dump(values, allow_unicode=True) if draw(st.booleans()) else json.dumps(values)
    extra = (
        "", "", "", "? [a]\n: 1\n", "2001-99-99: 1\n", "model: !!python/object/apply:os.system [x]\n", "<<: 3\n",
        "seed: 2001-02-30\n", "seed: " + "1" * 5000 + "\n", "a: &a [*a]\n", "seed: !!binary x\n", "%YAML 9.9\n---\n",
        "seed: " + "[" * 3000 + "\n", "---\na: 1\n", "seed: 1e999\n", "seed: .nan\n", "samples: 0x\n",
        "shapes: 1:30:00\n", "model: !!timestamp 2001-13-01\n",
    )  # fmt: skip
    return (text + draw(st.sampled_from(extra))).encode("utf-8", "surrogatepass")


@st.composite
def changed_safetensors(draw: st.DrawFn, whole: bytes, outside: str) -> bytes:
    """Return a safetensors file whose header is changed: its length, its JSON, its offsets, types and shapes."""
    length = int.from_bytes(whole[:8], "little")
    header, data = whole[8 : 8 + length], whole[8 + length :]
    match draw(st.sampled_from(("length", "header", "header", "header", "bytes", "data"))):
        case "length":
            wrong = draw(st.sampled_from((0, 1, length - 1, length + 1, len(whole), 2**31, 2**63, 2**64 - 1)))
            return wrong.to_bytes(8, "little") + header + data
        case "header":
            new = draw(changed_json(header, outside))
            return len(new).to_bytes(8, "little") + new + data
        case "bytes":
            return draw(changed_bytes(whole[: 8 + length])) + data
        case _:
            return whole[: 8 + length] + data[: draw(st.integers(0, len(data)))]
