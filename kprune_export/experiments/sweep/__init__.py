"""A family of pruned models: several speedups and precisions of one checkpoint, and which of them is worth having."""
