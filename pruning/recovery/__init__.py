"""Recovery: label-free distillation of a pruned model from the dense one, within a budget of tokens.

The plan does not change, only the weights of the encoder's layers do. Import the modules directly.
"""
