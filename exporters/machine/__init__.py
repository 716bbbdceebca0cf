"""The machine: its processors, GPU, quota and load."""
