"""Several runs compared: methods side by side, and sweeps over speedups and precisions."""
