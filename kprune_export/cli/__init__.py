"""The command line, one command per module. Nothing heavy is imported before a command runs."""
