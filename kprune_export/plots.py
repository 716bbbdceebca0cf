"""Plots with matplotlib that depend only on what is drawn, as SVG.

matplotlib takes settings from a file ``matplotlibrc`` in the working directory, which may be a checkpoint, or of the
user's: fonts and colours, but also that texts are set by running LaTeX. None of them count here.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw with matplotlib's own settings while the context lasts, or the decorated function runs.

    SVG keeps texts as texts, and gives the same text for the same plot.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kprune-export"})
        yield


def svg_of(figure: "Figure", *, transparent: bool = False) -> str:
    """Return a figure as SVG text, without a date, so that equal figures give equal texts."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=transparent, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
