"""Drawing pictures with matplotlib that depend on what is drawn alone.

matplotlib takes settings from a file ``matplotlibrc`` in the working directory, which may be a checkpoint, or of the
user's: fonts and colours, but also that texts are set by running LaTeX. None of them count here.
"""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw with matplotlib's own settings while the context lasts, or the decorated function runs.

    SVG keeps texts as texts, and gives the same text for the same picture.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kprune-export"})
        yield
