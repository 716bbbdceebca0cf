"""Runners: one interface over torch and the runtimes that models are deployed in."""

from exporters.runners.base import Array, Feeds, Runner

__all__ = ["Array", "Feeds", "Runner"]
