"""Check that what is loaded from a checkpoint is the whole of the model that it holds.

transformers leaves out weights that its classes have no place for, casts integers to floats, and ignores code and
adapters beside the weights, each without an error. Pruning would then be compared with another dense model than the
user's, so what outputs can depend on is refused here, and what they may depend on is noted.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from pruning.checkpoint.source import ADAPTER_FILES, CONFIG_FILE, SETFIT_FILE, CheckpointFolder
from pruning.errors import CheckpointError
from pruning.families import modeling_kprune
from pruning.families.base import Family
from pruning.json_file import read_object

STORAGE_DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
"""The types of weights that are read, by their names in safetensors files."""
_TYPE_NAMES = {dtype: name for name, dtype in STORAGE_DTYPES.items()}
_COUNTERS = re.compile(r"(^|\.)(position_ids|token_type_ids)$")
"""Buffers of integers that count up or are zero; transformers used to save them, and makes them itself."""
_POOLER = re.compile(r"^(\w+\.)?pooler\.")
"""The pooler of pre-training, which models that classify tokens, and others that pool by themselves, do not read."""
_TOKENIZER_CONFIG = "tokenizer_config.json"
_NAMES_SHOWN = 3


class StoredTensor(NamedTuple):
    """A tensor as its file declares it: name, type (as safetensors names types), and shape."""

    name: str
    kind: str
    shape: tuple[int, ...]


def stored_tensors(folder: CheckpointFolder) -> tuple[StoredTensor, ...]:
    """Return what a checkpoint's weight files hold, without reading the values of safetensors files.

    Raises:
        CheckpointError: a file is truncated or corrupt.
        UnpicklingError: a pickled file holds something other than tensors.

    """
    found: list[StoredTensor] = []
    for path in folder.weights:
        if folder.pickled:
            weights = torch.load(path, map_location="meta", weights_only=True)
            if not isinstance(weights, Mapping):
                raise CheckpointError(f"{path} does not hold weights by their names.")
            tensors = ((str(name), x) for name, x in weights.items() if isinstance(x, torch.Tensor))
            found += [StoredTensor(name, _type_name(x.dtype), tuple(x.shape)) for name, x in tensors]
            continue
        try:
            with safe_open(path, framework="pt") as file:
                slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            found += [StoredTensor(key, part.get_dtype(), tuple(part.get_shape())) for key, part in slices.items()]
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is not a sound safetensors file: {error}.") from error
    return tuple(found)


def check_files(folder: CheckpointFolder) -> None:
    """Refuse safetensors files that are cut short or corrupt; pickles are not opened.

    Raises:
        CheckpointError: one is.

    """
    if not folder.pickled:
        stored_tensors(folder)


def storage_dtype(tensors: Iterable[StoredTensor]) -> torch.dtype:
    """Return the narrowest floating-point type that holds all of a checkpoint's weights exactly."""
    kinds = {tensor.kind for tensor in tensors} & set(STORAGE_DTYPES)
    if len(kinds) == 1:
        return STORAGE_DTYPES[next(iter(kinds))]
    return torch.float64 if "F64" in kinds else torch.float32


def check_types(folder: CheckpointFolder, tensors: Iterable[StoredTensor]) -> None:
    """Refuse weights that are not floating-point numbers: reading them as such would change the model.

    Raises:
        CheckpointError: there are integers, booleans, complex numbers or 8-bit floats.

    """
    foreign = {x.name: x.kind for x in tensors if x.kind not in STORAGE_DTYPES and not _COUNTERS.search(x.name)}
    if foreign:
        kinds = ", ".join(sorted(set(foreign.values())))
        raise CheckpointError(
            f"{folder.path} holds {_counted(foreign)} of the type {kinds}, which cannot be pruned: give a checkpoint "
            "whose weights are float16, bfloat16, float32 or float64, before any quantization."
        )


def check_placed(folder: CheckpointFolder, model: Any, family: Family, unexpected: Collection[str]) -> None:
    """Refuse a checkpoint with weights that its model class has no place for.

    Heads of pre-training and a pooler that the class does not read are left out: no output of it depends on them.

    Args:
        folder: the checkpoint.
        model: as transformers loaded it.
        family: its architecture.
        unexpected: the weights that transformers left out.

    Raises:
        CheckpointError: there are others among them.

    """
    dropped = sorted(
        name
        for name in unexpected
        if not (name.startswith(family.pretraining_heads) or _POOLER.search(name) or _COUNTERS.search(name))
    )
    if dropped:
        raise CheckpointError(
            f"{folder.path} holds {_counted(dropped)} that a {type(model).__name__} with its config.json has no place "
            "for, so another model than the one that was trained would be pruned: check the number of layers in "
            f"{CONFIG_FILE}, merge adapters into the weights, or save the checkpoint without them if they are not used."
        )


def check_shapes_fit(folder: CheckpointFolder, mismatched: Iterable[Sequence[Any]]) -> None:
    """Refuse weights of other shapes than config.json implies.

    Args:
        folder: the checkpoint.
        mismatched: the name of each such tensor, its shape in the file, and the one expected.

    Raises:
        CheckpointError: there are some.

    """
    found = sorted((str(name), tuple(stored), tuple(expected)) for name, stored, expected in mismatched)
    if found:
        name, stored, expected = found[0]
        raise CheckpointError(
            f"{folder.path} holds {_counted([x[0] for x in found])} of other shapes than {CONFIG_FILE} implies: {name} "
            f"is {stored}, where {expected} is expected; restore the {CONFIG_FILE} that belongs to the weights."
        )


def refuse_adapters(folder: CheckpointFolder) -> None:
    """Refuse adapters beside the weights, which belong to the trained model and would not be loaded.

    Raises:
        CheckpointError: there are some.

    """
    for name in ADAPTER_FILES:
        for path in (folder.path / name, *sorted(folder.path.glob(f"*/{name}"))):
            if path.is_file():
                raise CheckpointError(
                    f"{folder.path} holds an adapter beside its weights ({path.relative_to(folder.path)}), without "
                    "which the model is another: merge it into the weights (merge_and_unload in PEFT) and save the "
                    "result, or remove the file if it is merged already."
                )


def unread_parts(folder: CheckpointFolder, model: Any, tokenizer: Any) -> tuple[str, ...]:
    """Return a sentence for each thing that a checkpoint declares and that is not read here, as its own code.

    Args:
        folder: the checkpoint.
        model: as it was loaded.
        tokenizer: as it was loaded.

    """
    notes = [
        f"The checkpoint declares code of its own in {file} ({', '.join(names)}), which is not run: it is read as "
        f"transformers' {type(loaded).__name__}, and results are about that."
        for file, settings, loaded in (
            (CONFIG_FILE, folder.config, model),
            (_TOKENIZER_CONFIG, _tokenizer_settings(folder), tokenizer),
        )
        if (names := _declared_code(settings))
    ]
    if folder.architecture and _is_unknown(folder.architecture) and not notes:
        notes.append(
            f"The checkpoint was saved from the class {folder.architecture[:80]}, which transformers does not have: it "
            f"is read as {type(model).__name__}, and results are about that."
        )
    if (folder.path / SETFIT_FILE).is_file():
        notes.append(
            "The checkpoint is a SetFit model, whose classifier is not read: results are about its embeddings."
        )
    return tuple(notes)


def _declared_code(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the code that an ``auto_map`` names, without the file that pruned checkpoints carry."""
    declared = settings.get("auto_map")
    values = declared.values() if isinstance(declared, Mapping) else [declared]
    names = [x for value in values for x in (value if isinstance(value, list | tuple) else [value])]
    ours = modeling_kprune.__name__.rpartition(".")[2]
    return tuple(dict.fromkeys(x[:80] for x in names if isinstance(x, str) and not x.startswith(f"{ours}.")))


def _tokenizer_settings(folder: CheckpointFolder) -> Mapping[str, Any]:
    path = folder.path / _TOKENIZER_CONFIG
    return read_object(path) if path.is_file() else {}


def _is_unknown(architecture: str) -> bool:
    import transformers

    return not hasattr(transformers, architecture)


def _counted(names: Collection[str]) -> str:
    """Return how many weights there are and what the first are called."""
    shown = ", ".join(name[:120] for name in list(names)[:_NAMES_SHOWN])
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{len(names)} weight{'s' if len(names) > 1 else ''} ({shown}{more})"


def _type_name(dtype: torch.dtype) -> str:
    return _TYPE_NAMES.get(dtype) or str(dtype).removeprefix("torch.")
