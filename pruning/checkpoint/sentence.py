"""Opening a pruned sentence embedder with the sentence-transformers library."""

from pathlib import Path
from typing import Any

from pruning.checkpoint.load import load_pruned
from pruning.checkpoint.purpose import find_purpose
from pruning.checkpoint.source import find_checkpoint
from pruning.errors import UnsupportedModelError


def load_sentence_transformer(path: str | Path) -> Any:
    """Return a ``SentenceTransformer`` over a pruned checkpoint, with its pooling: declared, or chosen by the user.

    Needs sentence-transformers 6 or later, which the extra ``sentence`` installs.

    Raises:
        CheckpointError: the folder is no pruned checkpoint.
        UnsupportedModelError: it is not a sentence embedder.
        ImportError: sentence-transformers is not installed, or too old.

    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    except ImportError as error:
        raise ImportError(
            f"load_sentence_transformer needs sentence-transformers 6 or later ({error}): "
            'pip install "kprune-export[sentence]".'
        ) from error

    class PrunedTransformer(Transformer):  # type: ignore[misc]  # its types are not followed
        """The library's Transformer module, its model loaded by `load_pruned`."""

        def _load_model(self, model_name_or_path: str, *_: Any, **__: Any) -> Any:
            return load_pruned(model_name_or_path)

    purpose = find_purpose(find_checkpoint(path))
    head = purpose.sentence_head
    if head is None:
        raise UnsupportedModelError(f"{path} is not a sentence embedder: nothing pools its tokens' vectors.")
    transformer = PrunedTransformer(str(path), max_seq_length=purpose.max_tokens)
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode=head.modes)]
    if head.normalize:
        modules.append(Normalize())
    return SentenceTransformer(modules=modules)
