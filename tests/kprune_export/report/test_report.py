import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from exporters.machine.cpu import processor_list
from kprune_export.pipeline.run import Outcome, prune_and_build
from kprune_export.recipe.recipe import Recipe
from kprune_export.report.render import ReportContent
from pruning.plan import LayerPlan, PruningPlan

EVIL = "<script>alert('x')</script>"


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


@pytest.fixture(scope="module")
def evil(
    make_checkpoint: Callable[..., Path],
    texts_file: Path,
    make_recipe: Callable[..., Recipe],
    tmp_path_factory: pytest.TempPathFactory,
) -> Outcome:
    """A bundle of a model whose labels, path and calibration file try to be HTML."""
    folder = tmp_path_factory.mktemp("evil")
    model = folder / "<img src=x onerror=alert(1)>"
    shutil.copytree(make_checkpoint(labels=(EVIL, "&amp;", "plain")), model)
    texts = folder / "<b>texts<b>.txt"
    shutil.copyfile(texts_file, texts)
    return prune_and_build(make_recipe(model, folder / "out", texts, min_speedup=0.0001))


def test_the_speedup_that_flops_alone_would_give(built: Outcome) -> None:
    """A latency target may leave no head and no neuron, where its table says that nothing else is fast enough."""
    plan = PruningPlan.read(built.output / "plan.json")
    emptied = plan.model_copy(update={"layers": tuple(LayerPlan(heads=(), neurons=()) for _ in plan.layers)})
    ideal = ReportContent.ideal_speedup.fget
    assert ideal is not None
    assert ideal(SimpleNamespace(plan=plan)) == pytest.approx(1 / (1 - plan.flops_reduction))
    assert ideal(SimpleNamespace(plan=emptied)) is None


def test_it_says_what_timing_was_done_under(built: Outcome) -> None:
    text = " ".join("".join(read((built.output / "report.html").read_text()).text).split())
    latency = built.reports[0].latency
    assert latency is not None
    assert f"2 threads on processors {processor_list(latency.affinity)}, governor " in text
    for shape in latency.shapes:
        before, after = shape.cpu
        assert f"{shape.shape}: load {before.load_1min:.2f} before, {after.load_1min:.2f} after; processors at " in text


def test_it_is_one_file_that_fetches_nothing(built: Outcome) -> None:
    html = (built.output / "report.html").read_text()
    reader = read(html)
    assert not {"iframe", "object", "embed", "form", "img", "base"} & set(reader.tags)
    assert reader.tags.count("script") == 1  # which copies snippets
    assert all(link.startswith(("#", "data:,")) for link in reader.links)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert reader.tags.count("svg") == 5


def test_what_models_and_files_are_called_stays_text(evil: Outcome) -> None:
    html = (evil.output / "report.html").read_text()
    reader = read(html)
    assert "img" not in reader.tags
    assert reader.tags.count("script") == 1
    assert EVIL not in html
    shown = " ".join(reader.text)
    assert EVIL in shown
    assert "&amp;" in shown
    assert "<img src=x onerror=alert(1)>" in shown
    assert "<b>texts<b>.txt" in shown


def test_it_shows_the_figures_of_the_json_files(built: Outcome) -> None:
    assert built.reports[0].latency is not None
    assert built.reports[0].fidelity is not None
    assert built.plan is not None
    shown = " ".join(" ".join(read((built.output / "report.html").read_text()).text).split())
    for shape in built.reports[0].latency.shapes:
        assert f"{shape.speedup:.2f}×" in shown
        assert f"{shape.pruned.p99_ms:,.2f}" in shown
    assert f"{built.reports[0].fidelity.headline.value:.4f}" in shown
    assert built.plan.sha256 in shown
    assert "Not gated: parity holds, and no gates were set" in shown
    for width in (len(built.plan.layers[0].neurons), len(built.plan.layers[1].neurons)):
        assert str(width) in shown


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    return found


@pytest.mark.parametrize("width", [1200, 400])
def test_it_opens_in_a_browser_without_errors(evil: Outcome, width: int, tmp_path: Path) -> None:
    page = tmp_path / "report.html"  # under a name that is safe on a command line
    shutil.copyfile(evil.output / "report.html", page)
    shot = tmp_path / "shot.png"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--enable-logging=stderr",
        "--v=0",
    ]
    run = subprocess.run(
        [chromium(), *flags, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1400",
         f"--screenshot={shot}", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert shot.stat().st_size > 20_000
    assert ":CONSOLE" not in run.stderr
