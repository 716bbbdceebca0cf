"""Rewrites of an exported graph into the form that a runtime and a precision need."""
