"""From token vectors to a sentence embedding, as a sentence-transformers checkpoint declares it.

The checkpoint's ``modules.json`` names its modules in order: a Transformer, a Pooling, and perhaps a
Normalize (https://www.sbert.net/docs/package_reference/sentence_transformer/models.html). These are
read from their small JSON files; the sentence-transformers package itself is not needed.
"""

import reprlib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.errors import CheckpointError, UnsupportedModelError
from pruning.json_file import read_json, read_object

MODULES_FILE = "modules.json"
LENGTH_FILE = "sentence_bert_config.json"
"""In the Transformer module's folder: the length that texts are cut to."""
LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
SUPPORTED_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens")


class SentenceHead(nn.Module):
    """Pools token vectors into one embedding a text and, if asked, scales it to length 1.

    Args:
        modes: pooling modes out of `SUPPORTED_MODES`; several are concatenated in their order.
        normalize: whether the embedding is divided by its Euclidean norm.

    """

    def __init__(self, modes: tuple[str, ...], normalize: bool) -> None:
        super().__init__()
        unknown = [mode for mode in modes if mode not in SUPPORTED_MODES]
        if unknown or not modes:
            raise UnsupportedModelError(
                f"The checkpoint pools its tokens by {' and '.join(unknown) or 'no mode at all'}, which is "
                f"not supported: only {', '.join(SUPPORTED_MODES)} are."
            )
        self.modes = modes
        self.normalize = normalize

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return embeddings of shape (texts, modes·d) from token vectors (texts, tokens, d).

        ``attention_mask`` has the shape (texts, tokens) and is 1 where there is a token, 0 in padding.
        """
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = [self._pool(mode, hidden, weights) for mode in self.modes]
        embedding = pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1)
        return F.normalize(embedding, dim=-1) if self.normalize else embedding

    @staticmethod
    def _pool(mode: str, hidden: Tensor, weights: Tensor) -> Tensor:
        if mode == "cls":
            return hidden[:, 0]
        if mode == "max":
            return hidden.masked_fill(weights == 0, torch.finfo(hidden.dtype).min).amax(1)
        total = (hidden * weights).sum(1)
        tokens = weights.sum(1).clamp(min=1e-9)
        return total / (tokens.sqrt() if mode == "mean_sqrt_len_tokens" else tokens)


def read_sentence_head(folder: Path) -> tuple[SentenceHead, int | None] | None:
    """Read the pooling and the maximum length in tokens that a checkpoint declares.

    Returns:
        None if the folder holds no sentence-transformers ``modules.json``; else the head, and the
        length that texts are cut to, None where the checkpoint names none.

    Raises:
        CheckpointError: a file is damaged, or the modules are not in the order that is supported.
        UnsupportedModelError: a module or a pooling mode is not supported.

    """
    if not (folder / MODULES_FILE).is_file():
        return None
    modules = read_json(folder / MODULES_FILE)
    kinds = module_kinds(modules, folder)
    paths = [folder / str(module["path"]) for module in modules]
    for path in paths:
        if "\0" in str(path) or not path.resolve().is_relative_to(folder.resolve()):
            raise CheckpointError(f"{folder / MODULES_FILE} names the path {str(path)!r}, outside the checkpoint.")
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise UnsupportedModelError(
            f"The sentence-transformers checkpoint chains {', '.join(kinds)}, which is not supported: "
            "only Transformer, Pooling and, as a third, Normalize are."
        )
    try:
        limit = _max_seq_length(paths[0])
    except OSError as error:  # a name that the system does not take
        raise CheckpointError(f"{folder / MODULES_FILE} names a path that cannot be read: {error.strerror}.") from error
    return SentenceHead(_pooling_modes(paths[1] / "config.json"), normalize="Normalize" in kinds), limit


def module_kinds(modules: Any, folder: Path) -> list[str]:
    """Return the names of the classes that a ``modules.json`` lists; with their packages where these are foreign.

    Args:
        modules: what the file holds.
        folder: the checkpoint, for the message.

    Raises:
        CheckpointError: it is not a list of modules.

    """
    try:
        types = [str(module["type"]) for module in modules]
        [str(module["path"]) for module in modules]
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{folder / MODULES_FILE} is not a list of modules with type and path.") from error
    return [x.rsplit(".", 1)[-1] if x.startswith("sentence_transformers.") else x for x in types]


def module_configs(folder: Path) -> tuple[Path, ...]:
    """Return the configuration files of the modules that a checkpoint's ``modules.json`` names, those inside it.

    Paths are returned whether or not there are such files. What `read_sentence_head` refuses is left out.
    """
    modules = read_json(folder / MODULES_FILE)
    entries = modules if isinstance(modules, list) else []
    named = [str(x["path"]) for x in entries if isinstance(x, dict) and x.get("path")]
    paths = [folder / name / "config.json" for name in named if "\0" not in name]
    return tuple(path for path in paths if path.resolve().is_relative_to(folder.resolve()))


def _max_seq_length(folder: Path) -> int | None:
    path = folder / LENGTH_FILE
    value = read_object(path).get("max_seq_length") if path.is_file() else None
    if value is not None and (not isinstance(value, int) or value < 1):
        raise CheckpointError(f"{path} declares max_seq_length {value!r}, which is not a positive number.")
    return value


def _pooling_modes(path: Path) -> tuple[str, ...]:
    config = read_object(path)
    declared = config.get("pooling_mode")
    if declared is None:
        return tuple(mode for key, mode in LEGACY_MODES.items() if config.get(key)) or ("mean",)
    modes = [declared] if isinstance(declared, str) else declared
    if not isinstance(modes, list) or not all(isinstance(mode, str) for mode in modes):
        raise CheckpointError(f"{path} declares the pooling_mode {reprlib.repr(declared)}, which names none.")
    return tuple(modes)
