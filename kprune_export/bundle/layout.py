"""Paths in an output folder."""

from collections.abc import Callable
from pathlib import Path

from kprune_export.output_folder.work import WORK as WORK

PLAN = "plan.json"
RECOVERY = "recovery.json"
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
GATES = "gates.json"
REPORT = "report.html"
SBOM = "sbom.json"
TRITON = "triton"
"""A Triton model repository made from the bundle's own files."""
REPOSITORY_RECORD = "kprune-triton.json"
"""The record in a model repository; Triton takes only folders for models."""
MANIFEST = "manifest.json"
SIGNATURE = "signature.sig"

Files = Callable[[str], Path]
"""Maps an output of an earlier stage, as a path in the bundle, to where it is at the moment."""


def is_unfinished(output: Path) -> bool:
    """Whether a folder holds the work of a run that was stopped, and no bundle."""
    return (output / WORK).is_dir() and not (output / MANIFEST).is_file()
