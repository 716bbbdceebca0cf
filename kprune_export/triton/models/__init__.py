"""The model.py files that repositories carry, copied as they are. Each runs inside Triton, without this project."""
