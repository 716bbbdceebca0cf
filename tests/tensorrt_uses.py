"""What of the TensorRT bindings a file of ours uses, and a script that looks whether the real module has it all."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECK = """
import json, re, sys
import tensorrt as trt

def resolve(dotted):
    found = trt
    for name in dotted.split("."):
        if not hasattr(found, name):
            return None
        found = getattr(found, name)
    return found

def parameters(text):
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([<") - (letter in ")]>")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]

def takes(function, count):
    doc = (function.__init__ if isinstance(function, type) else function).__doc__ or ""
    for signature in re.findall(r"^(?:\\d+\\. )?\\w+\\((self.*)\\) ->", doc, re.MULTILINE):
        own = parameters(signature)[1:]
        if sum("=" not in part for part in own) <= count <= len(own):
            return True
    return False

problems = []
for dotted, count in json.loads(sys.argv[1]):
    found = resolve(dotted)
    if found is None:
        problems.append(f"{dotted} is not there")
    elif count is not None and not takes(found, count):
        problems.append(f"{dotted} does not take {count} arguments")
print(json.dumps([trt.__version__, problems]))
"""


def uses_of_bindings(files: Sequence[Path], receivers: Mapping[str, str]) -> dict[str, int | None]:
    """Return what files use of the module, dotted, and with how many arguments they call it.

    Args:
        files: the sources.
        receivers: what variables hold, as names in the module; empty for the module itself.

    """
    uses: dict[str, int | None] = {}
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        called = {id(node.func): len(node.args) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            dotted = ast.unparse(node) if isinstance(node, ast.Attribute) else "("
            if "(" in dotted:
                continue
            for receiver, kind in receivers.items():
                if dotted.startswith(f"{receiver}."):
                    name = ".".join(filter(None, (kind, dotted.removeprefix(f"{receiver}."))))
                    uses[name] = called.get(id(node), uses.get(name))
    return {name: count for name, count in uses.items() if name != "__name__" and not name.endswith("__init__")}
