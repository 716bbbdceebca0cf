"""The stages of a run: each turns typed inputs into files of the bundle."""
