"""Timing each model in a process of its own, so that nothing that the other holds or runs can touch it."""

from exporters.timing.isolation.runner import PLACE, IsolatedRunner
from exporters.timing.isolation.timer import IsolatedTimer

__all__ = ["PLACE", "IsolatedRunner", "IsolatedTimer"]
