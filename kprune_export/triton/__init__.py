"""Triton model repositories: written from a bundle, and checked on a running server."""
