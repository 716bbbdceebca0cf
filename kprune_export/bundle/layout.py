"""Where everything is in an output folder."""

from pathlib import Path

PLAN = "plan.json"
LATENCY_TABLE = "latency_table.json"
SENSITIVITY = "sensitivity.json"
TARGET = "target.json"
CHECKPOINT = "checkpoint"
ONNX_FOLDER = "onnx"
GRAPHS = "graphs.json"
"""In the ONNX folder: what each variant's graph is."""
ENGINES = "engines"
PARITY = "parity.json"
FIDELITY = "fidelity.json"
LATENCY = "latency.json"
REPORT = "report.html"
SBOM = "sbom.json"
TRITON = "triton"
"""A Triton model repository made from the bundle's own files."""
MANIFEST = "manifest.json"
SIGNATURE = "signature.sig"
WORK = ".kprune-export"
"""The folder, inside the output folder, that holds a run's unfinished work; gone once it is done."""

ENTRIES = frozenset(
    (
        PLAN,
        LATENCY_TABLE,
        SENSITIVITY,
        TARGET,
        CHECKPOINT,
        ONNX_FOLDER,
        ENGINES,
        PARITY,
        FIDELITY,
        LATENCY,
        REPORT,
        SBOM,
        TRITON,
        MANIFEST,
        SIGNATURE,
        WORK,
    )
)
"""All that a bundle may hold at its top."""


def is_unfinished(output: Path) -> bool:
    """Whether a folder holds the work of a run that was stopped, and no bundle."""
    return (output / WORK).is_dir() and not (output / MANIFEST).is_file()


def foreign_entries(output: Path, entries: frozenset[str] = ENTRIES) -> list[str]:
    """Return the names in an output folder that are not among those given, a bundle's by default, sorted."""
    return sorted(path.name for path in output.iterdir() if path.name not in entries)
