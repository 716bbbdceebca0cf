"""Where everything is in an output folder."""

from pathlib import Path

PLAN = "plan.json"
CHECKPOINT = "checkpoint"
ONNX_FOLDER = "onnx"
ONNX = "onnx/model.onnx"
PARITY = "parity.json"
FIDELITY = "fidelity.json"
LATENCY = "latency.json"
REPORT = "report.html"
MANIFEST = "manifest.json"
WORK = ".kprune-export"
"""The folder, inside the output folder, that holds a run's unfinished work; gone once it is done."""

ENTRIES = frozenset((PLAN, CHECKPOINT, ONNX_FOLDER, PARITY, FIDELITY, LATENCY, REPORT, MANIFEST, WORK))
"""All that a bundle may hold at its top."""


def foreign_entries(output: Path) -> list[str]:
    """Return the names in an output folder that are not a bundle's, sorted."""
    return sorted(path.name for path in output.iterdir() if path.name not in ENTRIES)
