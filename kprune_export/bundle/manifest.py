"""The manifest: what a bundle holds, what it was made from, and whether it may be used."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from exporters.documents import Document, Record
from kprune_export.bundle.layout import MANIFEST, is_unfinished
from kprune_export.bundle.provenance import CommitRecord
from kprune_export.bundle.verdict import FidelityWarning, GateResult, Verdict, in_words, verdict_of
from kprune_export.errors import BundleError
from kprune_export.output_folder.publication import InnerPath
from kprune_export.recipe.model import PERMISSIONS
from pruning.calibration.coverage import SOME_UNKNOWN
from pruning.checkpoint.identity import CheckpointIdentity
from pruning.checkpoint.source import file_sha256

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class FileRecord(Record):
    """One file: its path in the bundle with forward slashes, and the hash and size of its bytes.

    Attributes:
        reproducible: whether the same inputs on the same versions give the same bytes; false for
            measured times and what shows them.

    """

    path: InnerPath
    sha256: str
    size_bytes: int
    reproducible: bool


class StageRecord(Record):
    """One stage that a bundle's files came from: the key of all that decided it, and its outputs."""

    name: str
    key: str
    reproducible: bool
    outputs: tuple[InnerPath, ...]


class SourceRecord(Record):
    """The dense or pruned checkpoint that a run started from.

    Attributes:
        tokenizer_sha256: one hash over all companions and their names.
        companions: the hash of each file that the tokenizer or the pooling reads, by its path in the checkpoint.
        pooling: what becomes of the tokens' vectors where no head of the model reads them, declared or chosen.

    """

    model: str
    weights_sha256: str
    config_sha256: str
    tokenizer_sha256: str
    companions: dict[str, str] = Field(default_factory=dict)
    pooling: str | None = None


def changed_files(found: SourceRecord, recorded: SourceRecord) -> tuple[str, ...]:
    """Return the names of the checkpoint's files that differ between two records, the weights first."""
    return _identity(found).changed_files(_identity(recorded))


def _identity(record: SourceRecord) -> CheckpointIdentity:
    return CheckpointIdentity(
        weights_sha256=record.weights_sha256, config_sha256=record.config_sha256, companions=record.companions
    )


DEFAULT_TEXTS = "embedded: docstrings of the installed packages"
"""The source of texts where the user gave none."""


class TextsRecord(Record):
    """The texts that a run read.

    Attributes:
        left_out: how many of the source's texts were not calibrated on because they are held out.
        unknown_share: the share of their characters that the tokenizer does not know.

    """

    source: str
    texts: int
    sha256: str
    left_out: int = 0
    unknown_share: Share = 0.0

    @property
    def caveat(self) -> str:
        """What limits any statement about fidelity on these texts, as a clause; empty where nothing does."""
        found = []
        if self.source == DEFAULT_TEXTS:
            found.append(
                "fidelity was measured on the default texts, sentences from docstrings, which may be unlike yours"
            )
        if self.unknown_share >= SOME_UNKNOWN:
            found.append(f"the tokenizer does not know {self.unknown_share:.1%} of the held-out texts' characters")
        return "; ".join(found)


class Manifest(Document):
    """A bundle's manifest; it is written last, so a folder without one is not a finished bundle.

    Attributes:
        verdict: None where a run validates nothing, as pruning alone.
        warnings: figures that are low by any standard, whatever the gates are.
        commit: of the repository that the run was started in, if it was in one.
        notes: sentences about what the results do not cover, as code of the checkpoint's own that was not run.
        validated_sha256: the hash of the manifest of the bundle that was validated, if one was.

    """

    noun, error = "manifest", BundleError
    format: Literal["kprune-bundle"] = "kprune-bundle"
    version: Literal[2] = 2
    command: str
    verdict: Verdict | None
    gates: tuple[GateResult, ...]
    warnings: tuple[FidelityWarning, ...] = ()
    task: str
    labels: tuple[str, ...]
    plan_sha256: str | None
    flops_reduction: FiniteFloat | None
    source: SourceRecord
    calibration: TextsRecord | None
    held_out: TextsRecord | None
    recipe: dict[str, Any]
    variants: tuple[str, ...] = ()
    versions: dict[str, str]
    commit: CommitRecord | None = None
    notes: tuple[str, ...] = ()
    validated_sha256: str | None = None
    stages: tuple[StageRecord, ...]
    files: tuple[FileRecord, ...]

    @model_validator(mode="after")
    def _verdict_of_its_gates(self) -> Self:
        implied = verdict_of(self.gates) if self.verdict is not None or self.gates else None
        if self.verdict != implied:
            raise ValueError(f"its verdict is {self.verdict!r}, but its gates come to {implied!r}")
        return self

    @property
    def repeatable_recipe(self) -> dict[str, Any]:
        """The recipe without the permissions in it: they are given again when a run is repeated, not the bundle."""
        return {name: value for name, value in self.recipe.items() if name not in PERMISSIONS}

    @classmethod
    def of_bundle(cls, bundle: Path) -> Self:
        """Read a bundle's manifest.

        Raises:
            BundleError: there is none, it is a link, or it is not valid.

        """
        path = bundle / MANIFEST
        if is_unfinished(bundle):
            raise BundleError(
                f"{bundle} holds an unfinished run: wait if it is running, else run the same command again."
            )
        if path.is_symlink():
            raise BundleError(f"{path} is a symbolic link, so that it is not of this bundle: put a copy in its place.")
        if not path.is_file():
            raise BundleError(f"{bundle} is not a finished bundle: it has no {MANIFEST}.")
        return super().read(path)

    def to_json(self) -> str:
        """Return the manifest as JSON text with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @property
    def sha256(self) -> str:
        """The hash of the file that it is written to."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def verdict_in_words(self) -> str | None:
        """The verdict as every page and message words it."""
        return in_words(self.verdict, self.gates, self.warnings)

    def reproducible_hashes(self) -> dict[str, str]:
        """Return the hashes that a rerun with the same inputs and versions has to give again, by path."""
        return {file.path: file.sha256 for file in self.files if file.reproducible}


def record_files(root: Path, outputs: Iterable[str], reproducible: bool) -> list[FileRecord]:
    """Hash the files that a stage wrote: each output is a file, or a folder of files.

    Raises:
        BundleError: an output is missing.

    """
    records = []
    for output in outputs:
        path = root / output
        if not path.exists():
            raise BundleError(f"{path} is missing.")
        files = [path] if path.is_file() else sorted(x for x in path.rglob("*") if x.is_file())
        records += [
            FileRecord(
                path=file.relative_to(root).as_posix(),
                sha256=file_sha256(file),
                size_bytes=file.stat().st_size,
                reproducible=reproducible,
            )
            for file in files
        ]
    return records
