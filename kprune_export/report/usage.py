"""How a pruned checkpoint is opened in transformers, as lines of Python for the report."""

from pruning.tasks import Task, TaskKind

_TOKENIZER = 'AutoTokenizer.from_pretrained("checkpoint")'
_PIPELINE = """from pruning import load_pruned
from transformers import AutoTokenizer, pipeline

run = pipeline("{name}", model=load_pruned("checkpoint"), tokenizer={tokenizer})
run({example})"""
_MODEL = """from pruning import load_pruned
from transformers import AutoTokenizer

model, tokenizer = load_pruned("checkpoint"), {tokenizer}
outputs = model(**tokenizer({texts}, padding=True, truncation=True, return_tensors="pt"))
outputs.{outputs}"""
_SENTENCES = """from pruning import load_sentence_transformer

model = load_sentence_transformer("checkpoint")
embeddings = model.encode(["a text"])"""
_PIPELINES = {
    TaskKind.SINGLE_LABEL: ("text-classification", '"a text"'),
    TaskKind.MULTI_LABEL: ("text-classification", '"a text", top_k=None'),
    TaskKind.REGRESSION: ("text-classification", '"a text", function_to_apply="none"'),
    TaskKind.RERANKING: (
        "text-classification",
        '{"text": "a query", "text_pair": "a passage"}, function_to_apply="none"',
    ),
    TaskKind.TOKEN_LABELS: ("token-classification", '"a text"'),
    TaskKind.MASKED_LM: ("fill-mask", 'f"a {run.tokenizer.mask_token} text"'),
}
"""transformers' pipeline, and what it is called with."""


def usage(task: Task, pooling: str | None) -> str:
    """Return Python that opens a bundle's checkpoint and runs it.

    Args:
        task: the model's task.
        pooling: what becomes of the tokens' vectors where no head of the model reads them.

    """
    if task.kind in _PIPELINES:
        name, example = _PIPELINES[task.kind]
        return _PIPELINE.format(name=name, example=example, tokenizer=_TOKENIZER)
    if task.kind is TaskKind.EMBEDDING and pooling != "pooler":
        return _SENTENCES
    named = {TaskKind.ANSWER_SPAN: "start_logits, outputs.end_logits", TaskKind.EMBEDDING: "pooler_output"}
    outputs = named.get(task.kind, "last_hidden_state")
    return _MODEL.format(tokenizer=_TOKENIZER, texts=example_texts(task), outputs=outputs)


def example_texts(task: Task) -> str:
    """Return a list of one example for a tokenizer, as Python."""
    pairs = {TaskKind.ANSWER_SPAN: '[("a question?", "a context")]', TaskKind.RERANKING: '[("a query", "a passage")]'}
    return pairs.get(task.kind, '["a text"]')
