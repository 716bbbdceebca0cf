"""The model card of a pruned checkpoint: its README.md, with the metadata that the Hugging Face hub reads.

https://huggingface.co/docs/hub/model-cards says which these are. A card holds nothing that was measured after pruning,
so that it is part of the checkpoint: the same model, texts and settings give the same bytes.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from kprune_export.printable import printable
from kprune_export.tables import markdown_text
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.checkpoint.purpose import head_ending
from pruning.checkpoint.source import CARD_FILE
from pruning.errors import CheckpointError
from pruning.plan import PruningPlan, first_problem
from pruning.tasks import TaskKind

Value = str | list[str]
_CARRIED = ("license", "license_name", "license_link", "language")
"""What a pruned model has in common with the one that it was made from."""
_PIPELINE_TAGS = {
    TaskKind.SINGLE_LABEL: "text-classification",
    TaskKind.MULTI_LABEL: "text-classification",
    TaskKind.REGRESSION: "text-classification",
    TaskKind.RERANKING: "text-ranking",
    TaskKind.TOKEN_LABELS: "token-classification",
    TaskKind.ANSWER_SPAN: "question-answering",
    TaskKind.MASKED_LM: "fill-mask",
    TaskKind.EMBEDDING: "sentence-similarity",
    TaskKind.TOKEN_FEATURES: "feature-extraction",
}
"""https://huggingface.co/docs/hub/models-tasks"""
_METRICS = {
    TaskKind.SINGLE_LABEL: ["accuracy"],
    TaskKind.MULTI_LABEL: ["f1"],
    TaskKind.REGRESSION: ["spearmanr"],
    TaskKind.RERANKING: ["spearmanr"],
    TaskKind.TOKEN_LABELS: ["seqeval"],
    TaskKind.ANSWER_SPAN: ["squad"],
    TaskKind.MASKED_LM: ["accuracy"],
    TaskKind.EMBEDDING: ["spearmanr"],
    TaskKind.TOKEN_FEATURES: [],
}
"""The metrics that such a model is judged by here, under their names at https://huggingface.co/evaluate-metric."""


class CardFacts(BaseModel):
    """What a card says beside the plan.

    Attributes:
        model: the hub id of the dense model; None where that is a local folder.
        base_model: that id too; where there is none, what the dense model's own card names.
        carried: metadata of the dense model's card that holds for the pruned one.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None
    base_model: Value | None
    carried: dict[str, Value]


def card_facts(model: str, source: EncoderCheckpoint) -> CardFacts:
    """Find out what a card has to say of the dense model.

    Args:
        model: the folder or the hub id that the user gave.
        source: the checkpoint that it is.

    Raises:
        CheckpointError: the dense model's README.md has metadata that cannot be read, its licence perhaps.

    """
    known = _metadata(source.folder.path / CARD_FILE)
    hub_id = None if Path(model).is_dir() else model
    return CardFacts(
        model=hub_id,
        base_model=hub_id or known.get("base_model"),
        carried={key: known[key] for key in _CARRIED if key in known},
    )


def model_card(facts: CardFacts, source: EncoderCheckpoint, plan: PruningPlan) -> str:
    """Return the text of README.md.

    Args:
        facts: what is known of the dense model.
        source: its checkpoint, or the pruned one: only its task and its configuration are read.
        plan: what was kept.

    """
    from huggingface_hub import ModelCardData

    kind = source.task.kind
    declared = kind is TaskKind.EMBEDDING and (source.folder.path / "modules.json").is_file()
    carried: dict[str, Any] = dict(facts.carried)
    data = ModelCardData(
        base_model=facts.base_model,
        library_name="sentence-transformers" if declared else "transformers",
        pipeline_tag=_PIPELINE_TAGS[kind] if declared or kind is not TaskKind.EMBEDDING else "feature-extraction",
        metrics=_METRICS[kind] or None,
        tags=["kprune", "pruned"],
        **carried,
    )
    return printable(f"---\n{data.to_yaml()}\n---\n\n{_body(source, plan, facts.model, declared)}")


def _metadata(card: Path) -> dict[str, Value]:
    """Return what of a card's metadata is read; empty where there is no card, or it has none."""
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    if not card.is_file():
        return {}
    try:
        block = REGEX_YAML_BLOCK.search(card.read_text(encoding="utf-8-sig"))
        values = yaml.load(block.group(2), Loader=yaml.BaseLoader) if block else {}  # noqa: S506 - makes text only
        found = {key: values[key] for key in ("base_model", *_CARRIED) if values and values.get(key)}
        return TypeAdapter(dict[str, Value]).validate_python(found)
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise CheckpointError(
            f"The metadata of {card}, the model's licence perhaps, cannot be read ({reason}): repair or remove the "
            "file."
        ) from error


def _body(source: EncoderCheckpoint, plan: PruningPlan, model: str | None, declared: bool) -> str:
    of = f" of {markdown_text(model)}" if model else ""
    layers = "\n".join(f"| {n} | {len(x.heads)} | {len(x.neurons)} |" for n, x in enumerate(plan.layers))
    labels = ", ".join(map(markdown_text, source.task.labels))
    parameters = ", ".join(f"{name} {value}" for name, value in plan.method.parameters.items())
    return f"""# {source.task.kind.value.capitalize()}, pruned

A pruned version{of}: {plan.flops_reduction:.2%} of the encoder's FLOPs at {plan.sequence_length} tokens are removed,
attention heads and FFN neurons, without retraining.

- Task: {source.task.kind.value}{f" ({labels})" if labels else ""}
- Architecture: {plan.family}
- Method: {plan.method.name}{f" ({markdown_text(parameters)})" if parameters else ""}
- Calibrated on {plan.calibration.texts} texts ({plan.calibration.tokens} tokens)
- SHA-256 of the dense weights: {plan.source_sha256}

```python
{_usage(source, declared)}
```

The code that this trusts is `modeling_kprune.py`, which cuts transformers' own classes to the widths in `config.json`.

| layer | heads of {plan.shape.heads} | neurons of {plan.shape.neurons} |
|---|---|---|
{layers}
"""


def _usage(source: EncoderCheckpoint, declared: bool) -> str:
    if declared:
        return (
            "from sentence_transformers import SentenceTransformer\n\n"
            'model = SentenceTransformer("path or id of this model", trust_remote_code=True)'
        )
    name = "AutoModel" + ("" if source.pooling else head_ending(source.folder.architecture))
    return (
        f"from transformers import {name}, AutoTokenizer\n\n"
        'path = "path or id of this model"\n'
        f"model = {name}.from_pretrained(path, trust_remote_code=True)\n"
        "tokenizer = AutoTokenizer.from_pretrained(path)"
    )
