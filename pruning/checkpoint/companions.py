"""Writing the files that travel beside a pruned model's weights.

Settings are written from the keys that are known to mean something for such a model. Others are left out, and with them
all that names code: ``auto_map``, ``custom_pipelines`` and their kin, modules of other packages, chat templates. So
opening a pruned checkpoint with ``trust_remote_code=True`` trusts the one file that is written here. Of the
vocabulary those files are copied that the tokenizer reads.
"""

import inspect
import json
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pruning.checkpoint.links import refuse_links_outside
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.checkpoint.source import CONFIG_FILE
from pruning.checkpoint.tokenizer import FAST_FILE, load_tokenizer
from pruning.errors import CheckpointError
from pruning.json_file import read_json, read_object
from pruning.pooling import LEGACY_MODES, LENGTH_FILE, MODULES_FILE, module_kinds

logger = logging.getLogger(__name__)

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
_SPECIAL_TOKENS_FILE = "special_tokens_map.json"
_ADDED_TOKENS_FILE = "added_tokens.json"
_SENTENCE_FILE = "config_sentence_transformers.json"

_TOKENIZER_KEYS = frozenset(
    (
        "add_bos_token",
        "add_eos_token",
        "backend",
        "clean_up_tokenization_spaces",
        "do_basic_tokenize",
        "max_len",
        "max_length",
        "model_input_names",
        "model_max_length",
        "never_split",
        "pad_to_multiple_of",
        "pad_token_type_id",
        "padding_side",
        "split_special_tokens",
        "stride",
        "truncation_side",
        "truncation_strategy",
        "vocab_type",
    )
)
"""Settings that all tokenizers know; those of one class are the parameters of its constructor."""
_NO_SETTINGS = re.compile(r"self|args|kwargs|vocab|merges|\w+_file|_\w+")
"""Parameters of constructors that are the vocabulary itself, or the files that it is read from."""
_TOKEN_LISTS = ("additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens")
_ADDED_TOKENS = "added_tokens_decoder"
_TOKEN_KEYS = frozenset(("__type", "content", "lstrip", "normalized", "rstrip", "single_word", "special"))
_VERSIONED = re.compile(r"tokenizer\.[\w.-]+\.json")
"""A tokenizer.json for versions of transformers from the one in its name on."""
_VERSIONS = "fast_tokenizer_files"

_ACTIVATION = re.compile(r"torch\.nn\.(\w+\.)*\w+")
"""What sentence-transformers may be made to import and call: a module of torch."""
_OLD_ACTIVATION = "sbert_ce_default_activation_function"
_OTHER_CONFIG_KEYS = ("position_embedding_type", "tokenizer_class")
"""Settings of models that other programs and earlier versions of transformers read."""
_MODULE_KEYS = ("idx", "name", "path", "type")
_POOLING_KEYS = ("embedding_dimension", "include_prompt", "pooling_mode", "word_embedding_dimension", *LEGACY_MODES)
_SENTENCE_KEYS = ("__version__", "default_prompt_name", "model_type", "prompts", "similarity_fn_name", "truncate_dim")
_LENGTH_KEYS = ("do_lower_case", "max_seq_length", "module_output_name", "transformer_task", "unpad_inputs")
_TEXT_KEYS = ("method", "method_output_name")
_CHAINS = (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
_PROBES = ("A good film, isn't it?", "Über-naïve cafés: 3.50 €", "漢字とかな", "x" * 300, "<mask> [MASK] <s>")
"""Texts that tokenizers are compared on."""


def known_config(values: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Return what is known of the values of a config.json: what its model's class declares, or reads nonetheless.

    Beside these that is what says which activation a cross-encoder's scores go through.

    Args:
        values: what transformers writes.
        model: the model, of one of transformers' own classes.

    """
    declared = {*type(model.config)().to_dict(), *_OTHER_CONFIG_KEYS}
    bases = (*type(model).__mro__, type(model.config))
    modules = {base.__module__ for base in bases if base.__module__.startswith("transformers.models.")}
    code = "".join(inspect.getsource(sys.modules[name]) for name in modules)  # DeBERTa's reads what it does not declare
    read = {key for key in values if re.search(rf"""config\.{re.escape(key)}\b|["']{re.escape(key)}["']""", code)}
    kept = {key: values[key] for key in values if key in declared | read and not key.startswith("_")}
    if _is_activation(values.get(_OLD_ACTIVATION)):
        kept[_OLD_ACTIVATION] = values[_OLD_ACTIVATION]
    sentence = values.get("sentence_transformers")
    if isinstance(sentence, Mapping) and _is_activation(sentence.get("activation_fn")):
        kept["sentence_transformers"] = {"activation_fn": sentence["activation_fn"]}
    return kept


def write_companions(checkpoint: EncoderCheckpoint, folder: Path) -> None:
    """Write the files of a checkpoint's tokenizer, and of sentence-transformers, into a folder.

    Raises:
        CheckpointError: a file of the checkpoint is damaged.

    """
    _write_tokenizer(checkpoint, folder)
    _write_sentence_files(checkpoint, folder)


def check_companions(checkpoint: EncoderCheckpoint) -> None:
    """Check that a checkpoint's tokenizer reads texts alike from the files that `write_companions` would write.

    Raises:
        CheckpointError: it does not: the checkpoint depends on settings or files that are not known.

    """
    with tempfile.TemporaryDirectory(prefix="kprune-tokenizer-") as name:
        folder = Path(name)
        write_companions(checkpoint, folder)
        config = json.loads(checkpoint.model.config.to_json_string())
        write_json(folder / CONFIG_FILE, known_config(config, checkpoint.model))
        if _reading(load_tokenizer(folder).tokenizer) != _reading(load_tokenizer(checkpoint.folder.path).tokenizer):
            raise CheckpointError(
                f"The tokenizer of {checkpoint.folder.path} depends on settings or files that a pruned checkpoint "
                "cannot carry: load it with transformers, save it with save_pretrained, and use that."
            )


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file with sorted keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _reading(tokenizer: Any) -> tuple[object, ...]:
    """Return all that decides how a tokenizer reads texts."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return (
        tokenizer.get_vocab() if backend is None else backend.to_str(),
        tokenizer.special_tokens_map,
        tokenizer.model_max_length,
        tokenizer.padding_side,
        tokenizer.truncation_side,
        tokenizer.model_input_names,
        tokenizer.pad_token_type_id,
        [tokenizer(text)["input_ids"] for text in _PROBES],
    )


def _write_tokenizer(checkpoint: EncoderCheckpoint, folder: Path) -> None:
    source, tokenizer = checkpoint.folder.path, checkpoint.tokenizer
    settings = read_object(source / TOKENIZER_CONFIG_FILE) if (source / TOKENIZER_CONFIG_FILE).is_file() else None
    versions = _versions(settings or {})
    files = (FAST_FILE, *versions)
    if not (getattr(tokenizer, "is_fast", False) and any((source / name).is_file() for name in files)):
        files = checkpoint.folder.vocabulary_files
    for name in files:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if settings is not None:
        kept = _tokenizer_settings(settings, type(tokenizer)) | ({_VERSIONS: versions} if versions else {})
        write_json(folder / TOKENIZER_CONFIG_FILE, kept)
    if (source / _SPECIAL_TOKENS_FILE).is_file():
        special = read_object(source / _SPECIAL_TOKENS_FILE)
        write_json(folder / _SPECIAL_TOKENS_FILE, _tokens(special))
    if (source / _ADDED_TOKENS_FILE).is_file():
        added = read_object(source / _ADDED_TOKENS_FILE)
        write_json(folder / _ADDED_TOKENS_FILE, {token: x for token, x in added.items() if isinstance(x, int)})


def _versions(settings: Mapping[str, Any]) -> list[str]:
    named = settings.get(_VERSIONS)
    found = [x for x in named if isinstance(x, str)] if isinstance(named, list) else []
    return [x for x in found if _VERSIONED.fullmatch(x)]


def _tokenizer_settings(settings: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return what is known of a tokenizer's settings."""
    import transformers

    constructors = (base.__dict__.get("__init__") for base in kind.__mro__[:-1])
    parameters = {name for made in constructors if made for name in inspect.signature(made).parameters}
    known = _TOKENIZER_KEYS | {name for name in parameters if not _NO_SETTINGS.fullmatch(name)}
    kept = {key: value for key, value in settings.items() if key in known and _is_plain(value)}
    kept |= _tokens(settings)
    if isinstance(settings.get(_ADDED_TOKENS), Mapping):
        added = settings[_ADDED_TOKENS].items()
        kept[_ADDED_TOKENS] = {n: _token(x) for n, x in added if n.isdigit() and isinstance(x, Mapping)}
    named = settings.get("tokenizer_class")
    if isinstance(named, str):
        is_known = not {named, named.removesuffix("Fast")}.isdisjoint(dir(transformers))
        kept["tokenizer_class"] = named if is_known else kind.__name__
    return kept


def _tokens(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the special tokens among settings."""
    kept = {key: _token(value) for key, value in settings.items() if key.endswith("_token") and _is_token(value)}
    for key in _TOKEN_LISTS:
        value = settings.get(key)
        if isinstance(value, list):
            kept[key] = [_token(x) for x in value if _is_token(x)]
        elif isinstance(value, Mapping):
            kept[key] = {str(name): _token(x) for name, x in value.items() if _is_token(x)}
    return kept


def _is_token(value: Any) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, Mapping) and "content" in value)


def _token(value: Any) -> Any:
    return _only(value, _TOKEN_KEYS) if isinstance(value, Mapping) else value


def _write_sentence_files(checkpoint: EncoderCheckpoint, folder: Path) -> None:
    """Write what sentence-transformers reads, where the checkpoint's modules are those that are evaluated here."""
    source = checkpoint.folder.path
    if not (source / MODULES_FILE).is_file() or checkpoint.pooling is not None:
        return
    modules = read_json(source / MODULES_FILE)
    kinds = module_kinds(modules, source)
    if kinds not in _CHAINS:
        logger.warning(
            "%s names modules that are not read here (%s): the pruned checkpoint is not one for sentence-transformers.",
            source / MODULES_FILE,
            ", ".join(kinds),
        )
        return
    places = [f"{number}_{kind}" if number else "" for number, kind in enumerate(kinds)]
    entries = [_only(module, _MODULE_KEYS) | {"path": place} for module, place in zip(modules, places, strict=True)]
    write_json(folder / MODULES_FILE, entries)
    length, *pooling = (source / str(module["path"]) for module in modules[:2])
    refuse_links_outside(source, (length / LENGTH_FILE, *(path / CONFIG_FILE for path in pooling)))
    if (length / LENGTH_FILE).is_file():
        write_json(folder / LENGTH_FILE, _transformer_settings(read_object(length / LENGTH_FILE)))
    if (source / _SENTENCE_FILE).is_file():
        write_json(folder / _SENTENCE_FILE, _sentence_settings(read_object(source / _SENTENCE_FILE)))
    for path in pooling:
        settings = read_object(path / CONFIG_FILE)
        kept = {key: value for key, value in _only(settings, _POOLING_KEYS).items() if _is_plain(value)}
        write_json(folder / places[1] / CONFIG_FILE, kept)


def _transformer_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of the settings of sentence-transformers' Transformer module: of texts alone."""
    kept = {key: value for key, value in _only(settings, _LENGTH_KEYS).items() if _is_plain(value)}
    modalities = settings.get("modality_config")
    text = modalities.get("text") if isinstance(modalities, Mapping) else None
    if isinstance(text, Mapping) and text.get("method") == "forward":
        kept["modality_config"] = {"text": {key: x for key, x in text.items() if key in _TEXT_KEYS and _is_plain(x)}}
    return kept


def _sentence_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of sentence-transformers' own settings: versions, prompts, and how scores are made."""
    kept: dict[str, Any] = {}
    for key, value in _only(settings, _SENTENCE_KEYS).items():
        if isinstance(value, Mapping):
            kept[key] = {str(name): text for name, text in value.items() if isinstance(text, str)}
        elif _is_plain(value):
            kept[key] = value
    if _is_activation(settings.get("activation_fn")):
        kept["activation_fn"] = settings["activation_fn"]
    return kept


def _only(values: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in keys}


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a truth value, nothing, or texts."""
    return (
        value is None
        or isinstance(value, bool | int | float | str)
        or (isinstance(value, list) and all(isinstance(x, str) for x in value))
    )


def _is_activation(value: Any) -> bool:
    return isinstance(value, str) and _ACTIVATION.fullmatch(value) is not None
