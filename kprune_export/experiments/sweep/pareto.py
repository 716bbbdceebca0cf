"""Pareto-optimal models by two figures."""

from collections.abc import Mapping
from typing import NamedTuple


class Point(NamedTuple):
    """A model's latency in ms, lower is better, and its fidelity, higher is better."""

    latency_ms: float
    fidelity: float

    def dominates(self, other: "Point") -> bool:
        """Whether it is as good in both, and better in one: Pareto's order."""
        return self != other and self.latency_ms <= other.latency_ms and self.fidelity >= other.fidelity


def dominated(points: Mapping[str, Point]) -> dict[str, bool]:
    """Return for each point whether another one dominates it; equal points do not dominate each other."""
    return {name: any(other.dominates(point) for other in points.values()) for name, point in points.items()}
