"""Differences between two bundles: read, compared, and put into tables."""
