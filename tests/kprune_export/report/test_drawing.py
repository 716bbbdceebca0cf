"""Pictures depend on what is drawn alone."""

import matplotlib

from kprune_export.pipeline.run import Outcome
from kprune_export.report.figures import widths_figure


def test_settings_of_others_do_not_count(built: Outcome) -> None:
    assert built.plan is not None
    before = widths_figure(built.plan)
    with matplotlib.rc_context({"text.usetex": True, "font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert widths_figure(built.plan) == before
        assert matplotlib.rcParams["text.usetex"] is True
