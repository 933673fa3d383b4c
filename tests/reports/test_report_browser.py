"""The report in a real browser: charts are drawn, nothing goes wrong on the console, tables sort."""

import re
import subprocess
from pathlib import Path

import polars as pl
import pytest

from research import reports
from research.reports import figures
from research.reports.document import Document, Figure, Section
from tests.reports import folders

pytestmark = pytest.mark.chromium
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=10000 --dump-dom"
)


def browse(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page's elements after its scripts have run, and what they wrote on the console."""
    command = ["chromium", *FLAGS.split(), f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, re.findall(r".*:CONSOLE.*", done.stderr)


def charts(dom: str) -> list[str]:
    """What is inside each chart's box."""
    return re.findall(r'<div class="drawing.*?(?=<noscript>)', dom, re.DOTALL)


def test_every_chart_is_drawn_and_the_console_stays_empty(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=\"document.title='owned'\">"
    studies = folders.write_study(tmp_path, arms=("plain", hostile), depths=(8, 20), seeds=2)
    frame = pl.DataFrame({"depth": [8, 20], "top1": [0.9, 0.8], "arm": ["plain", hostile]})
    own = [
        Figure("Lines", figures.metric_against(frame, "depth", "top1", "arm")),
        Figure("Cells", figures.heat_map(frame, "depth", "arm", "top1")),
        Figure("Nothing", figures.metric_against(frame.clear(), "depth", "top1", "arm")),
    ]
    page = Path(reports.write([Document("Depth", "?", [], [Section("Own", "", own)])], studies, tmp_path / "report"))
    dom, console = browse(page, tmp_path / "profile")
    assert console == []
    drawn = charts(dom)
    assert len(drawn) == 2 + 3  # the study's own, and three learning curves
    for chart in drawn:
        assert 'data-drawn="yes"' in chart
        assert "<svg" in chart or "<canvas" in chart
        assert "mark-" in chart or "<canvas" in chart
    assert "<title>Depth</title>" in dom


def test_a_click_on_a_heading_sorts_its_table(tmp_path: Path) -> None:
    studies = folders.write_study(tmp_path, depths=(8, 20, 32), seeds=1)
    page = Path(reports.write([Document("Depth", "?")], studies, tmp_path))
    click = """<script>
      const heading = [...document.querySelectorAll("th.number button")].find((b) => b.textContent === "parameters");
      heading.click();
      heading.click();
      heading.closest("table").id = "sorted";
    </script>"""
    clicked = tmp_path / "clicked.html"
    before, _, after = page.read_text().rpartition("</body>")
    clicked.write_text(f"{before}{click}</body>{after}")
    dom, console = browse(clicked, tmp_path / "profile")
    assert console == []
    table = re.search(r'<table id="sorted">.*?</table>', dom, re.DOTALL)
    assert table
    assert 'aria-sort="descending"' in table[0]
    shown = [int(text.replace(",", "")) for text in re.findall(r">([\d,]{6,})</td>", table[0])]
    params = [r.summary["params"] for r in studies[0].results]
    assert [number for number in shown if number in params] == sorted(params, reverse=True)
