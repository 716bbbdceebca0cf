"""Loading dense and pruned checkpoints into ordinary transformers models."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from pruning.calibration.batches import BATCH_SIZE, Batch, Counting, distinct_inputs, make_batches
from pruning.calibration.examples import Example
from pruning.checkpoint.completeness import (
    StoredTensor,
    check_placed,
    check_shapes_fit,
    check_types,
    refuse_adapters,
    storage_dtype,
    stored_tensors,
    unread_parts,
)
from pruning.checkpoint.identity import CheckpointIdentity, check_identity, identity_of_loaded, read_identity
from pruning.checkpoint.links import refuse_links_outside
from pruning.checkpoint.purpose import find_purpose, head_ending, model_class
from pruning.checkpoint.source import (
    CONFIG_FILE,
    CheckpointFolder,
    as_checkpoint_errors,
    find_checkpoint,
    read_config,
)
from pruning.checkpoint.tokenizer import check_vocabulary, load_tokenizer
from pruning.errors import CheckpointError, PlanError
from pruning.families import family_of, modeling_kprune
from pruning.families.base import EncoderAdapter, Family
from pruning.families.check import check_forward
from pruning.heads import TokenHead
from pruning.plan import EncoderShape, PruningPlan
from pruning.pooling import SentenceHead
from pruning.tasks import Task, TokenFeatures


@dataclass(frozen=True)
class EncoderCheckpoint:
    """A loaded model with all that pruning and exporting need beside it.

    Attributes:
        folder: where it came from.
        model: the transformers model, in evaluation mode, float32 (float64 if its file is).
        tokenizer: its tokenizer.
        family: its architecture.
        task: what it is for.
        head: turns the top's hidden states and an attention mask into the task's outputs.
        pooling: what the user chose for an encoder that declares no pooling; None for all others.
        max_positions: the longest sequence in tokens that the model can read.
        max_tokens: the length in tokens that texts are cut to.
        storage_dtype: the floating-point type of its file.
        plan: what it keeps, if it is pruned.
        identity: the hashes of the files that it was loaded from.
        notes: sentences about what the checkpoint declares and is not read, as code of its own.

    """

    folder: CheckpointFolder
    model: Any
    tokenizer: Any
    family: Family
    task: Task
    head: nn.Module
    pooling: str | None
    max_positions: int
    max_tokens: int
    storage_dtype: torch.dtype
    plan: PruningPlan | None
    identity: CheckpointIdentity
    notes: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that the tokenizer gives and the model reads."""
        return tuple(name for name in self.family.inputs if name in self.tokenizer.model_input_names)

    def reload(self) -> "EncoderCheckpoint":
        """Load the same checkpoint again, as it was before its model was changed in memory.

        Raises:
            CheckpointError: its files are no longer those that it was loaded from.

        """
        return load_checkpoint(self.folder.path, self.folder.pickled, self.pooling, self.identity)

    def open(self) -> EncoderAdapter:
        """Return the family's adapter over the model."""
        return self.family.open(self.model, self.task, self.head)

    @property
    def pooled_by(self) -> str | None:
        """What becomes of the tokens' vectors where no head of the model reads them; None where one does."""
        if isinstance(self.head, SentenceHead):
            return "+".join(self.head.modes) + (", normalised" if self.head.normalize else "")
        return self.pooling

    def batches(self, examples: Sequence[Example], seed: int = 0, batch_size: int = BATCH_SIZE) -> tuple[Batch, ...]:
        """Return examples as the batches that the model reads.

        Args:
            examples: the texts.
            seed: decides which tokens are masked, for a masked language model.
            batch_size: texts in a batch.

        Raises:
            CalibrationError: the task cannot use them.

        """
        counting = Counting(self.task.counts_special_tokens, seed if self.task.masks_tokens else None)
        return make_batches(self.tokenizer, self.task.texts(examples), self.max_tokens, batch_size, counting)

    def distinct_inputs(self, examples: Sequence[Example]) -> int:
        """Return how many of the examples are different to the model: after tokenizing and cutting to its length."""
        return distinct_inputs(self.tokenizer, self.task.texts(examples), self.max_tokens)


def load_checkpoint(
    source: str | Path,
    allow_pickle: bool = False,
    pooling: str | None = None,
    expected: CheckpointIdentity | None = None,
) -> EncoderCheckpoint:
    """Load a dense or a pruned checkpoint from a folder or by its hub id.

    Args:
        source: the folder or the hub id.
        allow_pickle: whether pickled weights are accepted.
        pooling: what becomes of the tokens' vectors of an encoder that does not say so itself: ``mean``,
            ``cls``, ``pooler`` or ``none``. A pruned checkpoint remembers it.
        expected: what it must be, where it was loaded before; anything else is refused.

    Raises:
        CheckpointError: it is not there, damaged, has weights that are not finite or that its model class would leave
            out or cast, lacks its vocabulary, is not the one expected, or is written to while it is loaded.
        UnsupportedModelError: its architecture or its task is not supported.

    """
    folder = find_checkpoint(source, allow_pickle)
    before = read_identity(folder)
    family = family_of(folder.model_type)
    purpose = find_purpose(folder, pooling)
    plan = folder.plan
    with quiet_transformers(), as_checkpoint_errors(folder.path):
        config = read_config(folder)
        family.check_config(config)
        refuse_adapters(folder)
        tensors = stored_tensors(folder)
        check_types(folder, tensors)
        _check_sizes(folder, tensors, config, family.encoder_shape(config))
        dtype = storage_dtype(tensors)
        compute_dtype = dtype if dtype is torch.float64 else torch.float32
        if plan is None:
            model = _load_dense(folder, config, purpose.ending, family, compute_dtype)
        else:
            model = _load_sliced(folder, config, purpose.ending, family, plan).to(compute_dtype)
        loaded = load_tokenizer(folder.path)
        tokenizer = loaded.tokenizer
        check_vocabulary(tokenizer, config.vocab_size, folder.path)
        folder = replace(folder, vocabulary_files=loaded.files)
        refuse_links_outside(folder.path, folder.companions())
        _check_finite(model, folder.path)
        task, head = purpose.task(config), purpose.head(model)
        check_forward(family.open(model.eval().requires_grad_(False), task, head), str(folder.path))
        positions = family.max_positions(config)
    _detach_from_files(model)
    identity = identity_of_loaded(folder, before)
    if expected is not None:
        check_identity(identity, expected, folder.path)
    if task.masks_tokens and tokenizer.mask_token_id is None:
        raise CheckpointError(f"The tokenizer of {folder.path} has no mask token, so the model cannot be given masks.")
    return EncoderCheckpoint(
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        family=family,
        task=task,
        head=head,
        pooling=purpose.pooling,
        max_positions=positions,
        max_tokens=min(positions, purpose.max_tokens or positions, loaded.max_tokens),
        storage_dtype=dtype,
        plan=plan,
        identity=identity,
        notes=unread_parts(folder, model, tokenizer),
    )


def load_pruned(path: str | Path) -> Any:
    """Load a pruned checkpoint as the transformers class that it was saved from, with smaller layers.

    No code of the checkpoint's own is run. The model has the dtype of its file and takes gradients, like
    one from ``from_pretrained``; it works with ``pipeline(..., model=model)``, ``Trainer``, and
    `load_sentence_transformer`. What ``Trainer`` or ``save_pretrained`` then saves can be loaded by this
    function again, and by plain transformers with ``trust_remote_code=True``.

    Raises:
        CheckpointError: the folder is no pruned checkpoint, or is damaged.
        UnsupportedModelError: transformers has changed the architecture.

    """
    folder = find_checkpoint(path)
    plan = folder.plan
    if plan is None:
        raise CheckpointError(
            f"{path} is not pruned (its config.json holds no plan): load it with transformers' from_pretrained."
        )
    family, ending = family_of(folder.model_type), head_ending(folder.architecture)
    with quiet_transformers(), as_checkpoint_errors(folder.path):
        dtype = storage_dtype(stored_tensors(folder))
        model = _load_sliced(folder, read_config(folder), ending, family, plan).to(dtype).eval()
    check_forward(family.open(model, TokenFeatures(), TokenHead()), str(folder.path))
    _detach_from_files(model)
    return model


def _check_sizes(folder: CheckpointFolder, tensors: Sequence[StoredTensor], config: Any, shape: EncoderShape) -> None:
    """Refuse a configuration that the weights cannot belong to, before a model of its size is made."""
    there = {size for tensor in tensors for size in tensor.shape}
    for name, value in (("hidden_size", shape.hidden_size), ("vocab_size", config.vocab_size)):
        if value not in there:
            raise CheckpointError(
                f"{folder.path / CONFIG_FILE} says {name} {value}, but no tensor of the weights has that size."
            )
    if shape.layers > len(tensors):
        raise CheckpointError(
            f"{folder.path / CONFIG_FILE} says {shape.layers} layers, but the weights are {len(tensors)} tensors."
        )


def _load_dense(folder: CheckpointFolder, config: Any, ending: str, family: Family, dtype: torch.dtype) -> Any:
    """Load with from_pretrained; refuse a checkpoint that lacks weights, or holds some that do not fit the model."""
    model, info = model_class(ending, config).from_pretrained(
        folder.path,
        config=config,
        dtype=dtype,
        attn_implementation=family.attention_implementation,
        use_safetensors=not folder.pickled,
        weights_only=True,
        local_files_only=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    check_shapes_fit(folder, info["mismatched_keys"])
    check_placed(folder, model, family, info["unexpected_keys"])
    missing = sorted(info["missing_keys"])
    if missing and not ending and all(key.startswith("pooler.") for key in missing):
        model.pooler, missing = None, []
    if missing:
        raise CheckpointError(
            f"{folder.path} lacks {len(missing)} of the model's weights, {missing[0]} among them, "
            "so it would run with random ones."
        )
    return model


def _load_sliced(folder: CheckpointFolder, config: Any, ending: str, family: Family, plan: PruningPlan) -> Any:
    """Build the model with the plan's widths, then load the weights, all of them."""
    if family.encoder_shape(config) != plan.shape:
        raise PlanError(f"The pruning plan in {folder.path} is not for the encoder that its config.json describes.")
    weights: dict[str, Tensor] = {}
    for path in folder.weights:
        with safe_open(path, framework="pt") as file:
            weights |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    config._attn_implementation = family.attention_implementation
    pruned_class = getattr(modeling_kprune, model_class(ending, config).__name__)
    pruned_class.register_for_auto_class(f"AutoModel{ending}")  # save_pretrained then writes its code too
    model = pruned_class(config)
    if not ending and hasattr(model, "pooler") and not any(key.startswith("pooler.") for key in weights):
        model.pooler = None
    try:
        loaded = model.load_state_dict(weights, strict=False, assign=True)
    except RuntimeError as error:
        details = str(error).splitlines()
        raise CheckpointError(
            f"The weights in {folder.path} do not fit its pruning plan: {details[min(1, len(details) - 1)].strip()}"
        ) from error
    missing = set(loaded.missing_keys)
    model.tie_weights(missing_keys=missing, recompute_mapping=False)  # takes out those that it ties to others
    for names, problem in ((missing, "lacks"), (loaded.unexpected_keys, "has too many")):
        if names:
            raise CheckpointError(
                f"The weights in {folder.path} do not fit its pruning plan: it {problem} {min(names)}."
            )
    return model.requires_grad_(True)


def _detach_from_files(model: Any) -> None:
    """Copy weights into memory: as loaded they are mapped files, in which later writes to the files would show."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


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
