"""Reading and writing checkpoints in Hugging Face layout, dense and pruned."""
