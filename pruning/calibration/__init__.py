"""Texts to calibrate on and to hold out: where they come from, and how they reach the model."""
