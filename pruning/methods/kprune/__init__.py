"""The default method: measured sensitivity, allocation by dynamic programming, elimination with re-solving."""
