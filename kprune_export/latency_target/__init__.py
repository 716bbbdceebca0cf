"""Latency as the target: tables, the search for widths, and trial timings of what it finds."""
