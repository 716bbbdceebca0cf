"""The model card of a pruned checkpoint: its README.md, with the metadata that the Hugging Face hub reads.

https://huggingface.co/docs/hub/model-cards says which these are. A card holds no times, so that it is a reproducible
part of the checkpoint: the same model, texts and settings give the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from exporters.documents import first_problem
from kprune_export.bundle.recovery_report import RecoveryReport
from kprune_export.bundle.verdict import FidelityWarning, GateResult
from kprune_export.evaluation import evaluation_of
from kprune_export.evaluation.fidelity import FidelityReport
from kprune_export.evaluation.snippets import CardWords
from kprune_export.printable import printable
from kprune_export.tables import Section, markdown_table, markdown_text
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.checkpoint.source import CARD_FILE
from pruning.errors import CheckpointError
from pruning.plan import PruningPlan

Value = str | list[str]
_CARRIED = ("license", "license_name", "license_link", "language")
"""What a pruned model has in common with the one that it was made from."""


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


@dataclass(frozen=True)
class CardFigures:
    """What a card says of a pruned model's fidelity.

    Attributes:
        variants: the reports of the exported variants, by name.
        dense: those of the dense model's own variants, to compare with.
        gates: the gates about fidelity and size; those about speed are not reproducible.
        warnings: figures that are low by any standard.

    """

    variants: Mapping[str, FidelityReport]
    dense: Mapping[str, FidelityReport]
    gates: Sequence[GateResult]
    warnings: Sequence[FidelityWarning]


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


def model_card(
    facts: CardFacts,
    source: EncoderCheckpoint,
    plan: PruningPlan,
    figures: CardFigures | None = None,
    recovery: RecoveryReport | None = None,
) -> str:
    """Return the text of README.md.

    Args:
        facts: what is known of the dense model.
        source: its checkpoint, or the pruned one: only its task and its configuration are read.
        plan: what was kept.
        figures: what was measured; None where nothing was.
        recovery: what training on the dense model's outputs did.

    """
    from huggingface_hub import ModelCardData

    evaluation = evaluation_of(source.task)
    words = evaluation.card(source)
    carried: dict[str, Any] = dict(facts.carried)
    data = ModelCardData(
        base_model=facts.base_model,
        library_name=words.library,
        pipeline_tag=words.pipeline_tag,
        metrics=list(evaluation.card_metrics) or None,
        tags=["kprune", "pruned"],
        **carried,
    )
    text = f"---\n{data.to_yaml()}\n---\n\n{_body(source, plan, facts.model, words, recovery)}{_measured(figures)}"
    return printable(text)


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


def _body(
    source: EncoderCheckpoint, plan: PruningPlan, model: str | None, words: CardWords, recovery: RecoveryReport | None
) -> str:
    of = f" of {markdown_text(model)}" if model else ""
    layers = "\n".join(f"| {n} | {len(x.heads)} | {len(x.neurons)} |" for n, x in enumerate(plan.layers))
    labels = ", ".join(map(markdown_text, source.task.labels))
    recovered = bool(recovery and recovery.recovery.best)
    how = "and the rest was trained on the dense model's outputs" if recovered else "without retraining"
    parameters = ", ".join(f"{name} {value}" for name, value in plan.method.parameters.items())
    return f"""# {source.task.name.capitalize()}, pruned

A pruned version{of}: {plan.flops_reduction:.2%} of the encoder's FLOPs at {plan.sequence_length} tokens are removed,
attention heads and FFN neurons, {how}.

- Task: {source.task.name}{f" ({labels})" if labels else ""}
- Architecture: {plan.family}
- Method: {plan.method.name}{f" ({markdown_text(parameters)})" if parameters else ""}
- Calibrated on {plan.calibration.texts} texts ({plan.calibration.tokens} tokens)
- {recovery or "Not recovered."}
- SHA-256 of the dense weights: {plan.source_sha256}

```python
{words.usage}
```

The code that this trusts is `modeling_kprune.py`, which cuts transformers' own classes to the widths in `config.json`.

| layer | heads of {plan.shape.heads} | neurons of {plan.shape.neurons} |
|---|---|---|
{layers}
"""


def _measured(figures: CardFigures | None) -> str:
    """Return the section about fidelity; empty where nothing was measured."""
    if figures is None:
        return ""
    reports = {**{f"dense {name}": report for name, report in figures.dense.items()}, **figures.variants}
    first = next(iter(figures.variants.values()))
    metrics = [metric.name for metric in first.metrics]
    rows = [
        (
            name,
            *(f"{measure.value:.4f}" for measure in report.measures),
            *(f"{metric.pruned:.4f}" for metric in report.metrics),
        )
        for name, report in reports.items()
    ]
    if metrics:
        rows.insert(0, ("dense fp32", *("" for _ in first.measures), *(f"{x.dense:.4f}" for x in first.metrics)))
    names = (measure.name for measure in first.measures)
    headings = ("variant", *(name.replace("_", " ") for name in (*names, *metrics)))
    about = f"On {first.texts} texts that pruning has not seen, against the dense model in fp32"
    gates = [(x.name, x.asked, x.measured, "yes" if x.passed else "no", x.detail) for x in figures.gates]
    parts = [
        markdown_table(Section("Fidelity", headings, tuple(rows))),
        markdown_text(f"{about}{'; metrics are against labels' if metrics else ''}. Speed is in report.html."),
        *(f"**Warning:** {markdown_text(warning.message)}" for warning in figures.warnings),
    ]
    if gates:
        parts.append(markdown_table(Section("Gates", ("gate", "asked", "measured", "passed", "about"), tuple(gates))))
    else:
        parts.append("No gates about fidelity or size were set.")
    return "\n" + "\n\n".join(parts) + "\n"
