"""The command line, run in the process of the tests."""

import sys


def run_cli(*arguments: object) -> int:
    """Run the command line in this process and return its exit code."""
    from kprune_export.cli.app import main

    saved = sys.argv
    sys.argv = ["kprune-export", *map(str, arguments)]
    try:
        main()
    except SystemExit as ending:
        return int(ending.code or 0)
    finally:
        sys.argv = saved
    return 0
