"""Loading dense and pruned checkpoints into ordinary transformers models."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pruning.checkpoint.source import CheckpointFolder, find_checkpoint
from pruning.errors import CheckpointError, PlanError, UnsupportedModelError
from pruning.families import family_of
from pruning.families.base import EncoderAdapter, Family
from pruning.plan import PruningPlan
from pruning.pooling import SentenceHead, read_sentence_head
from pruning.tasks import Task, TaskKind

_STORAGE_DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_CLASSIFIER_SUFFIX = "ForSequenceClassification"


@dataclass(frozen=True)
class EncoderCheckpoint:
    """A loaded model with all that pruning and exporting need beside it.

    Attributes:
        folder: where it came from.
        model: the transformers model, in evaluation mode, float32 (float64 if its file is).
        tokenizer: its tokenizer.
        family: its architecture.
        task: what it is for.
        sentence_head: a sentence embedder's pooling; None for other tasks.
        max_positions: the longest sequence in tokens that the model can read.
        max_tokens: the length in tokens that texts are cut to.
        storage_dtype: the floating-point type of its file.
        plan: what it keeps, if it is pruned.

    """

    folder: CheckpointFolder
    model: Any
    tokenizer: Any
    family: Family
    task: Task
    sentence_head: SentenceHead | None
    max_positions: int
    max_tokens: int
    storage_dtype: torch.dtype
    plan: PruningPlan | None

    def open(self) -> EncoderAdapter:
        """Return the family's adapter over the model."""
        return self.family.open(self.model, self.task, self.sentence_head)


def load_checkpoint(source: str | Path, allow_pickle: bool = False) -> EncoderCheckpoint:
    """Load a dense or a pruned checkpoint from a folder or by its hub id.

    Raises:
        CheckpointError: it is not there, damaged, or has weights that are not finite.
        UnsupportedModelError: its architecture or its task is not supported.

    """
    folder = find_checkpoint(source, allow_pickle)
    family = family_of(folder.model_type)
    head_and_limit = None if folder.architecture.endswith(_CLASSIFIER_SUFFIX) else read_sentence_head(folder.path)
    if head_and_limit is None and not folder.architecture.endswith(_CLASSIFIER_SUFFIX):
        raise UnsupportedModelError(
            f"The checkpoint {folder.path} is a {folder.architecture or folder.model_type} without a head that is "
            f"supported: a …{_CLASSIFIER_SUFFIX}, or a sentence-transformers modules.json that declares the pooling."
        )
    head, limit = head_and_limit or (None, None)
    plan = folder.plan
    with quiet_transformers(), _as_checkpoint_errors(folder.path):
        config = _config(folder)
        family.check_config(config)
        dtype = storage_dtype(folder)
        compute_dtype = dtype if dtype is torch.float64 else torch.float32
        if plan is None:
            model = _load_dense(folder, config, compute_dtype)
        else:
            model = _load_sliced(folder, config, family, plan).to(compute_dtype)
        tokenizer = _tokenizer(folder.path)
    _check_finite(model, folder.path)
    positions = int(config.max_position_embeddings)
    return EncoderCheckpoint(
        folder=folder,
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        family=family,
        task=_task(config, embedder=head is not None),
        sentence_head=head,
        max_positions=positions,
        max_tokens=min(positions, limit or positions, int(tokenizer.model_max_length)),
        storage_dtype=dtype,
        plan=plan,
    )


def load_pruned(path: str | Path) -> Any:
    """Load a pruned checkpoint as the ordinary transformers class it was saved from.

    The model has the dtype of its file and takes gradients, like one from ``from_pretrained``; it
    works with ``pipeline(..., model=model)``, ``Trainer``, and `load_sentence_transformer`. What
    ``Trainer`` or ``save_pretrained`` then saves can be loaded by this function again.

    Raises:
        CheckpointError: the folder is no pruned checkpoint, or is damaged.

    """
    folder = find_checkpoint(path)
    plan = folder.plan
    if plan is None:
        raise CheckpointError(
            f"{path} is not pruned (its config.json holds no plan): load it with transformers' from_pretrained."
        )
    family = family_of(folder.model_type)
    with quiet_transformers(), _as_checkpoint_errors(folder.path):
        return _load_sliced(folder, _config(folder), family, plan).to(storage_dtype(folder)).eval()


def storage_dtype(folder: CheckpointFolder) -> torch.dtype:
    """Return the floating-point type of a checkpoint's weights; float32 where they are mixed or pickled.

    Raises:
        CheckpointError: a safetensors file is truncated or corrupt.

    """
    if folder.pickled:
        return torch.float32
    names: set[str] = set()
    for path in folder.weights:
        try:
            with safe_open(path, framework="pt") as file:
                names |= {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is not a sound safetensors file: {error}.") from error
    kinds = names & set(_STORAGE_DTYPES)
    return _STORAGE_DTYPES[kinds.pop()] if len(kinds) == 1 else torch.float32


def _config(folder: CheckpointFolder) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)


def _tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)


def _model_class(folder: CheckpointFolder, config: Any) -> Any:
    """Return the concrete class: sequence classification where the checkpoint says so, else the encoder."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MODEL_MAPPING

    classifier = folder.architecture.endswith(_CLASSIFIER_SUFFIX)
    return (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING if classifier else MODEL_MAPPING)[type(config)]


def _load_dense(folder: CheckpointFolder, config: Any, dtype: torch.dtype) -> Any:
    """Load with from_pretrained and refuse a checkpoint that lacks weights of the encoder or the head."""
    model, info = _model_class(folder, config).from_pretrained(
        folder.path,
        config=config,
        dtype=dtype,
        attn_implementation="sdpa",
        use_safetensors=not folder.pickled,
        weights_only=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    missing = sorted(info["missing_keys"])
    if missing and all(".pooler." in f".{key}" for key in missing) and hasattr(model, "pooler"):
        model.pooler, missing = None, []
    if missing:
        raise CheckpointError(
            f"{folder.path} lacks {len(missing)} of the model's weights, {missing[0]} among them, "
            "so it would run with random ones."
        )
    return model


def _load_sliced(folder: CheckpointFolder, config: Any, family: Family, plan: PruningPlan) -> Any:
    """Build the dense class, cut it to the plan's widths, then load the weights, all of them."""
    weights: dict[str, Tensor] = {}
    for path in folder.weights:
        with safe_open(path, framework="pt") as file:
            weights |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    config._attn_implementation = "sdpa"
    model = _model_class(folder, config)(config)
    if hasattr(model, "pooler") and not any(key.startswith("pooler.") for key in weights):
        model.pooler = None
    family.open(model, Task(TaskKind.EMBEDDING), None).apply_widths(plan)
    try:
        model.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        details = str(error).splitlines()
        raise CheckpointError(
            f"The weights in {folder.path} do not fit its pruning plan: {details[min(1, len(details) - 1)].strip()}"
        ) from error
    return model.requires_grad_(True)


def _task(config: Any, embedder: bool) -> Task:
    if embedder:
        return Task(TaskKind.EMBEDDING)
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    by_problem_type = {
        "single_label_classification": TaskKind.SINGLE_LABEL,
        "multi_label_classification": TaskKind.MULTI_LABEL,
        "regression": TaskKind.REGRESSION,
    }
    default = TaskKind.REGRESSION if config.num_labels == 1 else TaskKind.SINGLE_LABEL
    return Task(by_problem_type.get(config.problem_type, default), labels)


def _check_finite(model: Any, path: Path) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(f"{path} has {bad} weights that are NaN or infinite in {name}.")


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' own bars and warnings; what matters of them is checked here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _as_checkpoint_errors(path: Path) -> Iterator[None]:
    """Turn what transformers and safetensors raise on bad files into one sentence."""
    try:
        yield
    except (CheckpointError, PlanError):
        raise
    except UnpicklingError as error:
        raise CheckpointError(
            f"The pickled weights in {path} hold something other than tensors, which may be code: they are not read."
        ) from error
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(f"The checkpoint {path} cannot be loaded: {reason}") from error
