"""``python -m kprune_export`` and the ``kprune-export`` script."""

from kprune_export.cli.app import main

if __name__ == "__main__":
    main()
