"""Advice where a gate failed: which setting to change, and in which direction."""

from collections.abc import Sequence

from kprune_export.bundle.verdict import GateResult
from kprune_export.recipe.gates import GATE_NAMES
from kprune_export.recipe.recipe import Recipe

_NEAR = 0.005
"""A miss by less than this, relative to the limit, is less than a few hundred texts can tell apart."""


def advice(gates: Sequence[GateResult], recipe: Recipe) -> tuple[str, ...]:
    """Return one sentence for each kind of gate that failed or is inconclusive.

    Args:
        gates: the results.
        recipe: what was asked.

    """
    broken = [gate for gate in gates if gate.broken]
    found = []
    if any(gate.about_quality for gate in broken):
        found.append(
            f"For fidelity: remove less ({_budget(recipe, less=True)}), or calibrate on more texts like those to be "
            "served (--calibration, --samples)."
        )
    if any(gate.name == "min_speedup" for gate in broken):
        int8 = "" if recipe.quantizes else ", or export in int8 too (--precision fp32,int8)"
        found.append(f"For speed: remove more ({_budget(recipe, less=False)}){int8}, or ask for it (--target-speedup).")
    if any(gate.name not in GATE_NAMES for gate in broken):  # a latency target
        found.append("For the target: run again on an idle machine, which times widths more exactly, or ask for less.")
    if any(gate.name == "max_size_mib" for gate in broken):
        int8 = "remove more" if recipe.quantizes else "export in int8 (--precision int8), or remove more"
        found.append(f"For size: {int8} ({_budget(recipe, less=False)}).")
    near = [gate for gate in broken if gate.value and abs(gate.value / gate.limit - 1) < _NEAR]
    if near:
        names = ", ".join(f"--{gate.name.replace('_', '-')}" for gate in near)
        found.append(
            f"{names} missed by less than {_NEAR:.1%} of the limit: measure on more texts (--held-out, --evaluation) "
            "before you change anything."
        )
    if any(gate.inconclusive for gate in gates):
        found.append("Where a gate is inconclusive: run the same command again on an idle machine.")
    return tuple(found)


def _budget(recipe: Recipe, *, less: bool) -> str:
    if recipe.target_speedup is not None:
        return f"--target-speedup {'below' if less else 'above'} {recipe.target_speedup:g}"
    if recipe.target_latency_ms is not None:
        return f"--target-latency-ms {'above' if less else 'below'} {recipe.target_latency_ms:g}"
    return f"--flops-reduction {'below' if less else 'above'} {recipe.flops_reduction:g}"
