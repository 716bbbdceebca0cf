"""Python for report and model card that opens a pruned checkpoint and runs it."""

from dataclasses import dataclass

from pruning.checkpoint.load import EncoderCheckpoint
from pruning.checkpoint.purpose import head_ending

_TOKENIZER = 'AutoTokenizer.from_pretrained("checkpoint")'
SENTENCE_SNIPPET = """from pruning import load_sentence_transformer

model = load_sentence_transformer("checkpoint")
embeddings = model.encode(["a text"])"""
"""For the report of a sentence embedder."""
SENTENCE_CARD_SNIPPET = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path or id of this model", trust_remote_code=True)"""
"""For the card of a checkpoint that sentence-transformers opens."""


@dataclass(frozen=True)
class CardWords:
    """What a model card says by the task.

    Attributes:
        library: the ``library_name`` of the hub's metadata.
        pipeline_tag: one of https://huggingface.co/docs/hub/models-tasks.
        usage: Python that opens the published checkpoint.

    """

    library: str
    pipeline_tag: str
    usage: str


def pipeline_snippet(pipeline: str, arguments: str) -> str:
    """Return Python that runs a bundle's checkpoint in a pipeline of transformers.

    Args:
        pipeline: its name.
        arguments: what it is called with, as Python.

    """
    return f"""from pruning import load_pruned
from transformers import AutoTokenizer, pipeline

run = pipeline("{pipeline}", model=load_pruned("checkpoint"), tokenizer={_TOKENIZER})
run({arguments})"""


def outputs_snippet(texts: str, outputs: str) -> str:
    """Return Python that runs a bundle's checkpoint and reads its outputs.

    Args:
        texts: a list of texts or pairs, as Python.
        outputs: the attribute of the outputs that is read.

    """
    return f"""from pruning import load_pruned
from transformers import AutoTokenizer

model, tokenizer = load_pruned("checkpoint"), {_TOKENIZER}
outputs = model(**tokenizer({texts}, padding=True, truncation=True, return_tensors="pt"))
outputs.{outputs}"""


def transformers_card_snippet(checkpoint: EncoderCheckpoint) -> str:
    """Return Python that opens a published checkpoint in plain transformers."""
    name = "AutoModel" + ("" if checkpoint.pooling else head_ending(checkpoint.folder.architecture))
    return f"""from transformers import {name}, AutoTokenizer

path = "path or id of this model"
model = {name}.from_pretrained(path, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(path)"""
