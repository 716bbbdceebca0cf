"""Opening a pruned sentence embedder with the sentence-transformers library."""

from pathlib import Path
from typing import Any

from pruning.checkpoint.load import load_pruned
from pruning.errors import UnsupportedModelError
from pruning.pooling import read_sentence_head


def load_sentence_transformer(path: str | Path) -> Any:
    """Return a ``SentenceTransformer`` over a pruned checkpoint, with the pooling that it declares.

    Needs sentence-transformers 6 or later, which this project does not install.

    Raises:
        CheckpointError: the folder is no pruned checkpoint.
        UnsupportedModelError: it is not a sentence embedder.
        ImportError: sentence-transformers is not installed, or too old.

    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    class PrunedTransformer(Transformer):  # type: ignore[misc]  # its types are not followed
        """The library's Transformer module, its model loaded by `load_pruned`."""

        def _load_model(self, model_name_or_path: str, *_: Any, **__: Any) -> Any:
            return load_pruned(model_name_or_path)

    declared = read_sentence_head(Path(path))
    if declared is None:
        raise UnsupportedModelError(f"{path} is not a sentence embedder: it has no modules.json.")
    head, max_tokens = declared
    transformer = PrunedTransformer(str(path), max_seq_length=max_tokens)
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode=head.modes)]
    if head.normalize:
        modules.append(Normalize())
    return SentenceTransformer(modules=modules)
