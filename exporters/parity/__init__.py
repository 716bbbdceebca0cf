"""Parity: whether an artefact gives what the model it was made from gives."""
