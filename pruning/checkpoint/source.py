"""Finding a checkpoint and refusing, before anything is loaded, what cannot be used safely."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError

from pruning.checkpoint.links import refuse_links_outside
from pruning.errors import CheckpointError, PlanError, PruningError, UnsupportedModelError
from pruning.json_file import read_object
from pruning.plan import MOST_LAYERS, PruningPlan, first_problem
from pruning.pooling import MODULES_FILE, module_configs

CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
PLAN_KEY = "kprune"
"""The key of config.json under which a pruned checkpoint carries its plan."""
POOLING_KEY = "kprune_pooling"
"""The key under which it carries the pooling that its user chose, where the checkpoint declares none."""
WEIGHTS_FILE = "model.safetensors"
_INDEX_FILE = "model.safetensors.index.json"
_PICKLE_FILES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
COMPANION_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
"""Files beside the configuration and the weights that a checkpoint may be read from."""
ADAPTER_FILES = ("adapter_config.json", "pytorch_adapter.bin")
"""By which adapters of PEFT and AdapterHub are recognised: trained weights beside those of the model."""
SETFIT_FILE = "config_setfit.json"
_QUANTIZED = ("quantization_config", "compression_config")
"""Keys of config.json under which other tools say how they have quantized the weights."""
_API_SETTINGS: Mapping[str, Any] = {
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
    "chunk_size_feed_forward": 0,
}
"""Settings of config.json about what transformers' Python API returns, and in how many parts it computes: the values
that pruning and exporting rely on, none of which changes an output."""
_DECODER_SUFFIXES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True)
class CheckpointFolder:
    """A checkpoint on the local disk whose files are all there and of a kind that is read.

    Attributes:
        path: the folder.
        config: its config.json.
        weights: the files that hold its weights, sorted by name.
        pickled: whether these are pickles and not safetensors.
        vocabulary_files: the names of the files that its tokenizer's class reads, once that is known.

    """

    path: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    pickled: bool
    vocabulary_files: tuple[str, ...] = ()

    @property
    def model_type(self) -> str:
        """The architecture, as transformers names it."""
        return str(self.config["model_type"])

    @property
    def architecture(self) -> str:
        """The model class that the checkpoint was saved from, or the empty text."""
        named = self.config.get("architectures")
        return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""

    @property
    def plan(self) -> PruningPlan | None:
        """The plan of a pruned checkpoint, None for a dense one.

        Raises:
            CheckpointError: config.json carries a plan that is not valid.

        """
        if PLAN_KEY not in self.config:
            return None
        try:
            return PruningPlan.from_json(json.dumps(self.config[PLAN_KEY]), origin=f"{self.path / CONFIG_FILE}")
        except PlanError as error:
            raise CheckpointError(str(error)) from error

    def weights_sha256(self) -> str:
        """Hash the weights: the file's SHA-256 where there is one, else that of the list of all."""
        hashes = {path.name: file_sha256(path) for path in self.weights}
        return next(iter(hashes.values())) if len(hashes) == 1 else joint_sha256(hashes)

    def companions(self) -> tuple[Path, ...]:
        """Return every file beside config.json and the weights that decides what is loaded.

        These are the tokenizer's, sentence-transformers', and the configurations of the modules that modules.json
        names.
        """
        named = [self.path / name for name in (*COMPANION_FILES, *self.vocabulary_files)]
        found = [*named, *sorted(self.path.glob("tokenizer.*.json"))]  # fast tokenizers of named versions
        if (self.path / MODULES_FILE).is_file():
            found += [*module_configs(self.path), *sorted(self.path.glob("[0-9]*_*/config.json"))]
        return tuple(path for path in dict.fromkeys(found) if _is_file(path))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that the system does not take
        return False


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def joint_sha256(hashes: Mapping[str, str]) -> str:
    """Return one hash over the hashes of several files and their names."""
    return hashlib.sha256("".join(f"{sha}  {name}\n" for name, sha in hashes.items()).encode()).hexdigest()


def find_checkpoint(source: str | Path, allow_pickle: bool = False) -> CheckpointFolder:
    """Find a checkpoint by its folder or its Hugging Face hub id, and check what can be without loading.

    Args:
        source: a folder in Hugging Face layout, or ``owner/name`` on the hub.
        allow_pickle: whether weights in pickle files are accepted; they can run code when opened by
            other programs, and are read here with torch's restricted unpickler.

    Raises:
        CheckpointError: it is not there, not a checkpoint, damaged, quantized, or pickled without permission, or a
            file of it is a link to elsewhere.
        UnsupportedModelError: it is a decoder.

    """
    path = Path(source)
    if not path.exists() and _looks_like_hub_id(str(source)):
        path = _download(str(source), allow_pickle)
    if not path.is_dir() or not (path / CONFIG_FILE).is_file():
        found = "has no config.json" if path.is_dir() else "is a file" if path.is_file() else "does not exist"
        raise CheckpointError(
            f"{source} is not a checkpoint: it {found}; give a folder saved with save_pretrained, or a hub id."
        )
    refuse_links_outside(path, [path / name for name in (CONFIG_FILE, CARD_FILE, MODULES_FILE)])
    config = read_object(path / CONFIG_FILE)
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(f"{path / CONFIG_FILE} names no model_type, so {path} is not a checkpoint.")
    _refuse_quantized(path, config)
    folder = CheckpointFolder(path, config, *_find_weights(path, allow_pickle))
    refuse_links_outside(path, folder.companions())
    if folder.architecture.endswith(_DECODER_SUFFIXES) or config.get("is_encoder_decoder"):
        raise UnsupportedModelError(
            f"The checkpoint {path} is a decoder ({folder.architecture or folder.model_type}), "
            "but only encoders can be pruned."
        )
    return folder


def _refuse_quantized(path: Path, config: Mapping[str, Any]) -> None:
    for key in _QUANTIZED:
        settings = config.get(key)
        if settings:
            method = settings.get("quant_method") if isinstance(settings, dict) else None
            raise CheckpointError(
                f"The checkpoint {path} is already quantized ({str(method or key)[:80]}): give the full-precision "
                "checkpoint that it was made from; --precision int8 quantizes what is exported."
            )


def _looks_like_hub_id(source: str) -> bool:
    parts = source.split("/")
    return len(parts) <= 2 and all(parts) and not source.startswith((".", "~"))


def _download(repo_id: str, allow_pickle: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [CONFIG_FILE, CARD_FILE, "*.safetensors", _INDEX_FILE, *COMPANION_FILES, "*_*/config.json"]
    patterns += [ADAPTER_FILES[0], f"*/{ADAPTER_FILES[0]}", SETFIT_FILE]  # not read, but not to be overlooked
    if allow_pickle:
        patterns += ["pytorch_model*.bin", _PICKLE_FILES[1]]
    try:
        return Path(snapshot_download(repo_id, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{repo_id} is neither a folder here nor could it be fetched from the Hugging Face hub: {reason}"
        ) from error


def _find_weights(path: Path, allow_pickle: bool) -> tuple[tuple[Path, ...], bool]:
    """Return the weight files and whether they are pickles; safetensors win where there are both."""
    if (path / WEIGHTS_FILE).is_file():
        return (path / WEIGHTS_FILE,), False
    if (path / _INDEX_FILE).is_file():
        return _sharded(path, _INDEX_FILE), False
    pickles = [name for name in _PICKLE_FILES if (path / name).is_file()]
    if not pickles:
        raise CheckpointError(f"{path} holds no weights: neither {WEIGHTS_FILE} nor {_INDEX_FILE} is there.")
    if not allow_pickle:
        raise CheckpointError(
            f"The weights in {path} are pickled ({pickles[0]}), a format that can carry code: convert them to "
            "safetensors, or pass --allow-pickle if you trust where they came from."
        )
    return ((path / pickles[0],) if pickles[0].endswith(".bin") else _sharded(path, pickles[0])), True


def _sharded(path: Path, index: str) -> tuple[Path, ...]:
    names = read_object(path / index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{path / index} has no weight_map, so the weights cannot be found.")
    shards = sorted({str(name) for name in names.values()})
    there = {entry.name for entry in path.iterdir() if entry.is_file()}
    for name in shards:
        if name not in there:
            raise CheckpointError(f"{path / index} names the file {name[:200]!r}, which is not in the folder.")
    return tuple(path / name for name in shards)


_MOST = {"num_labels": 1_000_000, "num_hidden_layers": MOST_LAYERS, "n_layers": MOST_LAYERS}
"""Numbers that transformers makes a list or a dictionary of as soon as it reads them."""


def read_config(folder: CheckpointFolder) -> Any:
    """Return transformers' configuration of a checkpoint; no code of the checkpoint's own is run.

    Settings that are only about transformers' Python API have their defaults, whatever the file says.

    Raises:
        CheckpointError: config.json is not one of its model's.

    """
    from transformers import AutoConfig

    file = folder.path / CONFIG_FILE
    for name, most in _MOST.items():
        value = folder.config.get(name)
        if isinstance(value, int) and value > most:
            raise CheckpointError(
                f"{file} is not a sound configuration: {name} is {value}, and at most {most} is taken."
            )
    try:
        config = AutoConfig.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
        for name, value in _API_SETTINGS.items():
            setattr(config, name, value)
        return config
    except Exception as error:  # it raises whatever the configuration's own checks do
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{file} is not a sound configuration: {reason}") from error


@contextlib.contextmanager
def as_checkpoint_errors(path: Path) -> Iterator[None]:
    """Turn what transformers and safetensors raise on bad files into one sentence.

    Raises:
        CheckpointError: instead of anything that is not one of this package's own errors.

    """
    try:
        yield
    except PruningError:
        raise
    except UnpicklingError as error:
        raise CheckpointError(
            f"The pickled weights in {path} hold something other than tensors, which may be code: they are not read."
        ) from error
    except (
        SafetensorError,
        ImportError,  # of a package that a setting of the checkpoint asks for
        OSError,
        ValueError,
        LookupError,
        ArithmeticError,
        RuntimeError,
        TypeError,
        AttributeError,
        AssertionError,  # torch checks its layers' sizes so
    ) as error:
        said = first_problem(error) if isinstance(error, ValidationError) else str(error)
        reason = " ".join(said.split())[:300] or type(error).__name__
        raise CheckpointError(f"The checkpoint {path} cannot be loaded: {reason}") from error
