"""Gates and default limits, evaluated against what was measured."""
