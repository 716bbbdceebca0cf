"""Several pruning methods on one checkpoint and one calibration set, side by side."""
