"""Runs: preflight, stages, and the commands made of them."""
