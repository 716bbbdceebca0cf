"""From a bundle to a Triton model repository.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kprune_export.bundle.layout import CHECKPOINT, GRAPHS, LATENCY, ONNX_FOLDER, REPOSITORY_RECORD, Files
from kprune_export.bundle.manifest import record_files
from kprune_export.bundle.verify import verify_bundle
from kprune_export.errors import BundleError, RecipeError, VerificationError
from kprune_export.model_export import model_spec
from kprune_export.output_folder.inputs import OUTPUT, check_apart
from kprune_export.triton.config import VERSION, machine_configs, repository_configs, schema, write_config
from kprune_export.triton.encoders import choose_variants, serve_variant
from kprune_export.triton.folder import check_folder, write_folder
from kprune_export.triton.machines import Timings, by_machine, read_timings, read_validations
from kprune_export.triton.postprocessing import POSTPROCESSINGS
from kprune_export.triton.repository_record import Backend, RepositoryRecord
from kprune_export.triton.text import TOKENIZER, text_record
from pruning.checkpoint.load import load_checkpoint

_MODELS = Path(__file__).parent / "models"
_KEEP = "keep.txt"
"""In the version's folder of an ensemble, which has no files: copies and archives drop empty folders."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What to serve, and how.

    Attributes:
        name: the beginning of the models' names.
        variants: which of the bundle's; empty for all.
        backend: what serves them; None for each one's own.
        text: whether clients can send texts.
        pairs: whether these are pairs.

    """

    name: str = "encoder"
    variants: tuple[str, ...] = ()
    backend: Backend | None = None
    text: bool = True
    pairs: bool = False

    def check(self) -> None:
        """Check what needs no bundle.

        Raises:
            RecipeError: the name cannot be a model's.
            MissingRuntimeError: tritonclient is not installed.

        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", self.name):
            raise RecipeError(f"{self.name!r} cannot name a model: use letters, digits, _, . and - only.")
        schema()


@dataclass(frozen=True, kw_only=True)
class RepositoryRequest(Serving):
    """A repository to write.

    Attributes:
        bundle: a bundle of prune-and-build.
        output: the folder.
        validated: what `validate` wrote of the bundle on other machines, for configurations of theirs.

    """

    bundle: Path
    output: Path
    validated: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ServedBundle:
    """A bundle as a repository is made from it.

    Attributes:
        files: where its files are, by their paths in it.
        variants: the names of its variants.
        task: what the model is for.
        labels: a classifier's labels, in order.
        verdict: in words.
        plan_sha256: the hash of the pruning plan.
        timings: what was timed on other machines.

    """

    files: Files
    variants: tuple[str, ...]
    task: str
    labels: tuple[str, ...]
    verdict: str | None
    plan_sha256: str | None
    timings: tuple[Timings, ...] = ()


@dataclass(frozen=True)
class PlannedRepository:
    """A repository before it is written: what it is, and the files of each model's version, by their names there."""

    record: RepositoryRecord
    files: Mapping[str, Mapping[str, Path]]

    def write(self, folder: Path) -> RepositoryRecord:
        """Write it into an empty folder, and return what it is, with its files."""
        for name, config in repository_configs(self.record).items():
            version = folder / name / VERSION
            version.mkdir(parents=True)
            for target, source in self.files.get(name, {}).items():
                shutil.copyfile(source, version / target)
            if name not in self.files:
                (version / _KEEP).write_text("Triton needs this folder.\n", encoding="utf-8")
            write_config(config, folder / name)
        for name, configs in machine_configs(self.record).items():
            for file, config in configs.items():
                write_config(config, folder / name, file)
        listed = record_files(folder, self.record.models, reproducible=False)
        full = self.record.model_copy(update={"files": tuple(sorted(listed, key=lambda file: file.path))})
        (folder / REPOSITORY_RECORD).write_text(full.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return full


def write_repository(request: RepositoryRequest) -> RepositoryRecord:
    """Write a repository from a bundle, and return what it is.

    Raises:
        RecipeError: the name cannot be a model's.
        VerificationError: the bundle has changed since it was made.
        BundleError: it cannot be served as asked.
        OutputFolderError: the output folder cannot be used.
        MissingRuntimeError: tritonclient is not installed.

    """
    request.check()
    bundle = request.bundle
    reads = [("bundle", bundle), *(("results of a validation", folder) for folder in request.validated)]
    check_apart([(OUTPUT, request.output)], reads)
    check_folder(request.output)
    manifest, difference = verify_bundle(bundle)
    if difference:
        raise VerificationError(f"{bundle} has changed since it was made: {'; '.join(difference.lines())}.")
    if not (bundle / CHECKPOINT).is_dir() or not (bundle / ONNX_FOLDER / GRAPHS).is_file():
        raise BundleError(f"{bundle} was made by {manifest.command}: only bundles of prune-and-build can be served.")
    served = ServedBundle(
        files=lambda path: bundle / path,
        variants=manifest.variants,
        task=manifest.task,
        labels=manifest.labels,
        verdict=manifest.verdict_in_words,
        plan_sha256=manifest.plan_sha256,
        timings=read_validations(bundle, request.validated),
    )
    planned = plan_repository(served, request)
    with write_folder(request.output) as folder:
        return planned.write(folder)


def plan_repository(bundle: ServedBundle, serving: Serving) -> PlannedRepository:
    """Decide all of a repository, and write nothing; errors as `write_repository`."""
    chosen = choose_variants(bundle.variants, serving.variants, serving.backend)
    checkpoint = load_checkpoint(bundle.files(CHECKPOINT))
    spec = model_spec(checkpoint, {})
    timings = by_machine((*read_timings(bundle.files(LATENCY)), *bundle.timings))
    encoders = [
        serve_variant(bundle.files, x, backend, serving.name, spec.max_positions, timings)
        for x, backend in chosen.items()
    ]
    records = tuple(encoder.record for encoder in encoders)
    text = text_record(checkpoint, records, serving.name, serving.pairs) if serving.text else None
    record = RepositoryRecord(
        task=bundle.task,
        labels=bundle.labels,
        verdict=bundle.verdict,
        plan_sha256=bundle.plan_sha256,
        vocabulary=spec.vocabulary,
        token_types=spec.token_types,
        pad_token_id=spec.pad_token_id,
        encoders=records,
        text=text,
        files=(),
    )
    files: dict[str, Mapping[str, Path]] = {}
    for encoder in encoders:
        own = {"model.py": _MODELS / "encoder.py"} if encoder.record.backend == "python" else {}
        files[encoder.record.name] = {**encoder.files, **own}
    if text:
        tokenizer = checkpoint.folder.path / TOKENIZER
        files[text.tokenizer] = {"model.py": _MODELS / "tokenizer.py", TOKENIZER: tokenizer}
        model_file = POSTPROCESSINGS[text.activation].model_file
        if text.answers and model_file:
            files[text.answers] = {"model.py": _MODELS / model_file}
    return PlannedRepository(record, files)
