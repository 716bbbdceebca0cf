"""From a bundle to a Triton model repository.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kprune_export.bundle.layout import CHECKPOINT, GRAPHS, ONNX_FOLDER
from kprune_export.bundle.manifest import record_files
from kprune_export.bundle.verify import verify_bundle
from kprune_export.errors import BundleError, RecipeError, VerificationError
from kprune_export.stages.export import model_spec
from kprune_export.triton.config import VERSION, repository_configs, schema, write_config
from kprune_export.triton.encoders import ServedEncoder, choose_variants, serve_variant
from kprune_export.triton.folder import check_folder, write_folder
from kprune_export.triton.record import RECORD, Backend, RepositoryRecord
from kprune_export.triton.text import TOKENIZER, text_record
from pruning.checkpoint.load import load_checkpoint

_MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True)
class RepositoryRequest:
    """What to serve.

    Attributes:
        bundle: a bundle of prune-and-build.
        output: the repository to write.
        name: the beginning of the models' names.
        variants: which of the bundle's; empty for all.
        backend: what serves them; None for each one's own.
        text: whether clients can send texts.
        pairs: whether these are pairs.

    """

    bundle: Path
    output: Path
    name: str = "encoder"
    variants: tuple[str, ...] = ()
    backend: Backend | None = None
    text: bool = True
    pairs: bool = False


def write_repository(request: RepositoryRequest) -> RepositoryRecord:
    """Write a repository, and return what it is.

    Raises:
        RecipeError: the name cannot be a model's.
        VerificationError: the bundle has changed since it was made.
        BundleError: it cannot be served as asked.
        OutputFolderError: the output folder cannot be used.
        MissingRuntimeError: tritonclient is not installed.

    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", request.name):
        raise RecipeError(f"{request.name!r} cannot name a model: use letters, digits, _, . and - only.")
    schema()
    check_folder(request.output)
    bundle = request.bundle
    manifest, difference = verify_bundle(bundle)
    if difference:
        raise VerificationError(f"{bundle} has changed since it was made: {'; '.join(difference.lines())}.")
    if not (bundle / CHECKPOINT).is_dir() or not (bundle / ONNX_FOLDER / GRAPHS).is_file():
        raise BundleError(f"{bundle} was made by {manifest.command}: only bundles of prune-and-build can be served.")
    chosen = choose_variants(manifest.variants, request.variants, request.backend)
    checkpoint = load_checkpoint(bundle / CHECKPOINT)
    spec = model_spec(checkpoint, {})
    encoders = [serve_variant(bundle, x, backend, request.name, spec.max_positions) for x, backend in chosen.items()]
    records = tuple(encoder.record for encoder in encoders)
    record = RepositoryRecord(
        task=manifest.task,
        labels=manifest.labels,
        verdict=manifest.verdict_in_words,
        plan_sha256=manifest.plan_sha256,
        vocabulary=spec.vocabulary,
        token_types=spec.token_types,
        pad_token_id=spec.pad_token_id,
        encoders=records,
        text=text_record(checkpoint, records, request.name, request.pairs) if request.text else None,
        files=(),
    )
    with write_folder(request.output) as folder:
        return _write(record, encoders, checkpoint.folder.path / TOKENIZER, folder)


def _write(
    record: RepositoryRecord, encoders: Sequence[ServedEncoder], tokenizer: Path, folder: Path
) -> RepositoryRecord:
    files: dict[str, Mapping[str, Path]] = {}
    for encoder in encoders:
        own = {"model.py": _MODELS / "encoder.py"} if encoder.record.backend == "python" else {}
        files[encoder.record.name] = {**encoder.files, **own}
    if record.text:
        files[record.text.tokenizer] = {"model.py": _MODELS / "tokenizer.py", TOKENIZER: tokenizer}
        if record.text.answers:
            files[record.text.answers] = {"model.py": _MODELS / "answers.py"}
    for name, config in repository_configs(record).items():
        version = folder / name / VERSION  # ensembles too have a folder for their version, an empty one
        version.mkdir(parents=True)
        for target, source in files.get(name, {}).items():
            shutil.copyfile(source, version / target)
        write_config(config, folder / name)
    listed = record_files(folder, record.models, reproducible=False)
    full = record.model_copy(update={"files": tuple(sorted(listed, key=lambda file: file.path))})
    (folder / RECORD).write_text(full.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return full
