"""Output folders: which files in one may be replaced, how it is locked, and how its content appears as a whole."""
