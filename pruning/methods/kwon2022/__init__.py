"""Fisher mask search, rearrangement and mask tuning (Kwon et al., NeurIPS 2022)."""
