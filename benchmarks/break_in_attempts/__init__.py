"""Attempts to break a promise of the product over its command line, one module for each subject."""
