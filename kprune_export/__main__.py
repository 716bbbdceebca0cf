"""``python -m kprune_export`` and the ``kprune-export`` script."""

import sys

sys.path.insert(0, __file__.rpartition("kprune_export")[0])  # under -m the working directory would come first

from exporters.processes.import_path import leave_working_directory

del sys.path[0]
leave_working_directory()

from kprune_export.cli.app import main  # noqa: E402

if __name__ == "__main__":
    main()
