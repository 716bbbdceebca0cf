"""Latency: timers, measurement in turn, isolation, noise, and latency tables."""
