"""Latency per sublayer and width on a machine, and the latency of models by it."""
