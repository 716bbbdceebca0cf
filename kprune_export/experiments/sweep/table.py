"""A sweep as tables: one for each shape, the fastest trial first, and what failed."""

from collections.abc import Iterator

from exporters.rounding import beside, limit_text
from kprune_export.experiments.sweep.sweep_record import TARGET_GATE, SweepRecord, Trial, TrialFigures
from kprune_export.tables import Section, markdown_table, markdown_text

FRONT, DOMINATED = "front", "dominated"


def sections(record: SweepRecord) -> Iterator[Section]:
    """Return a table for each shape, one of what embedders find, and one of the trials that failed."""
    made = record.made
    fidelity = made[0][1].fidelity.name.replace("_", " ") if made else "fidelity"
    metric = next((x.metric.name.replace("_", " ") for _, x in made if x.metric), None)
    headings = ("trial", "p50, ms", "speedup", fidelity, *((metric,) if metric else ()), "MiB", "", "gates")
    for shape in record.shapes:
        ordered = sorted(made, key=lambda pair: pair[1].at(shape).p50_ms)
        rows = tuple(_row(trial, figures, shape, metric is not None) for trial, figures in ordered)
        yield Section(f"At {shape}", headings, rows)
    yield _retrieval(record)
    failed = tuple((trial.name, trial.error) for trial in record.trials if trial.error is not None)
    yield Section("Failed", ("trial", "why"), failed)


def remarks(record: SweepRecord) -> Iterator[str]:
    """Return what has to be known beside the tables, in sentences."""
    for trial, figures in record.made:
        for warning in figures.warnings:
            yield f"Warning, {trial.name}: {warning.message}"
    noisy = sorted({trial.name for trial, figures in record.made if any(x.noise for x in figures.latency)})
    if noisy:
        yield (
            f"The machine was noisy while {', '.join(noisy)} {'was' if len(noisy) == 1 else 'were'} timed: run the "
            "sweep again on a quiet one before a small difference decides."
        )
    notes = [figures.metric.note for _, figures in record.made if figures.metric]
    for caveat in dict.fromkeys((record.held_out.caveat, *notes)):
        if caveat:
            yield f"{caveat[0].upper()}{caveat[1:]}."


def markdown(record: SweepRecord) -> str:
    """Return sweep.md."""
    lines = [
        "# Sweep",
        "",
        markdown_text(
            f"{record.task}, fidelity on {record.held_out.texts} held-out texts against dense fp32, latency with "
            f"{record.threads} threads on {record.machine.cpu_model}, speedup over dense fp32. {FRONT}: no other "
            f"trial is as fast and as faithful, and better in one of the two; {DOMINATED}: one is."
        ),
    ]
    for section in sections(record):
        if section.rows:
            lines += ["", markdown_table(section)]
    for remark in remarks(record):
        lines += ["", markdown_text(remark)]
    return "\n".join(lines) + "\n"


def _row(trial: Trial, figures: TrialFigures, shape: str, labelled: bool) -> tuple[str, ...]:
    at = figures.at(shape)
    metric = (f"{figures.metric.pruned:.4f}" if figures.metric else "",) if labelled else ()
    return (
        trial.name,
        f"{at.p50_ms:.4g}",
        f"{at.speedup:.2f} x ({at.speedup_low:.2f} to {at.speedup_high:.2f}){', noisy' if at.noise else ''}",
        f"{figures.fidelity.value:.4f}",
        *metric,
        f"{figures.size_bytes / 2**20:.3g}",
        DOMINATED if at.dominated else FRONT,
        "" if trial.speedup is None else _gates(figures),  # gates are about pruned models
    )


def _retrieval(record: SweepRecord) -> Section:
    """Return what the trials of an embedder find; ``index`` is with the dense model's stored vectors."""
    names = tuple(dict.fromkeys(name for _, figures in record.made for name in figures.retrieval))
    rows = tuple(
        (trial.name, *(f"{x.retrieval[name]:.4f}" if name in x.retrieval else "" for name in names))
        for trial, x in record.made
        if names
    )
    return Section("Retrieval", ("trial", *(name.replace("_", " ") for name in names)), rows)


def _gates(figures: TrialFigures) -> str:
    missed = [gate for gate in figures.gates if gate.name == TARGET_GATE and gate.broken]
    parts = [f"breaks {name}" for name in figures.broken] + [f"inconclusive: {name}" for name in figures.inconclusive]
    parts += [f"asked for {limit_text(x.limit)} x, reached {beside(x.value, x.limit, 2)} x" for x in missed]
    gated = any(gate.name != TARGET_GATE for gate in figures.gates)
    return ", ".join(parts) or ("hold" if gated else "not gated")
