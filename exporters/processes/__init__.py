"""Child processes: how they are started, and that none outlives its parent."""
