"""Latency as the target: tables, the search for widths, and rehearsals of what it finds."""
