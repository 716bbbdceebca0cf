"""The recipe: all settings of a run, from flags, YAML or Python."""
