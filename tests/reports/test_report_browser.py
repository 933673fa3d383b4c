"""The report in a real browser: charts are drawn and answer, nothing goes wrong on the console, tables sort."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from research import reports
from research.reports import figures
from research.reports.document import Document, Figure, Section
from research.sweeps import results
from tests.reports import folders
from tests.reports.browser import Browser, browse

pytestmark = pytest.mark.chromium
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
OPACITIES = """return [...document.querySelectorAll(arguments[0] + " .mark-line path")]
    .map((path) => Number(path.getAttribute("opacity") ?? path.getAttribute("stroke-opacity") ?? 1))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every kind of chart; one arm's name would be a script if anything took it for HTML."""
    workdir = tmp_path_factory.mktemp("report")
    studies = folders.write_study(workdir, arms=("plain", HOSTILE), depths=(8, 20), seeds=2)
    frame = pl.DataFrame({"depth": [8, 20, 8], "top1": [0.9, 0.8, 0.7], "arm": ["plain", HOSTILE, HOSTILE]})
    own = [
        Figure("Lines", figures.metric_against(frame, "depth", "top1", "arm")),
        Figure("Cells", figures.heat_map(frame, "depth", "arm", "top1")),
        Figure("Nothing", figures.metric_against(frame.clear(), "depth", "top1", "arm")),
    ]
    return Path(reports.write([Document("Depth", "?", [], [Section("Own", "", own)])], studies, workdir))


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browse(tmp_path_factory.mktemp("profile")) as window:
        window.open(page)
        yield window


def chart(title: str) -> str:
    """The selector of the drawing with this title."""
    return f'.drawing[aria-label="{title}"]'


def test_every_chart_is_drawn_and_the_console_stays_empty(browser: Browser) -> None:
    drawn = browser.run(
        """return [...document.querySelectorAll(".drawing")].map((box) => {
             const images = box.querySelectorAll(".chart-wrapper > svg, .chart-wrapper > canvas");
             return [box.ariaLabel, box.dataset.drawn, images.length, images[0].getBoundingClientRect().width];
           })"""
    )
    assert [title for title, *_ in drawn] == [
        "Lines",
        "Cells",
        "Evaluation top-1 accuracy",
        "Training-set top-1 accuracy",
        "Training loss",
    ]
    for title, state, count, width in drawn:
        assert (state, count) == ("yes", 1), title
        assert 800 < width < 1100, title
    assert browser.console() == []
    assert browser.run("return document.title") == "Depth"


@pytest.mark.parametrize("title", ["Lines", "Evaluation top-1 accuracy"])
def test_a_click_on_the_legend_chooses_arms(browser: Browser, title: str) -> None:
    selector = chart(title)
    before = browser.run(OPACITIES, selector)
    browser.point(f"{selector} .role-legend-symbol path", click=True)
    chosen = browser.wait(OPACITIES, lambda now: now != before, selector)
    assert sum(opacity < 0.1 for opacity in chosen) == len(before) / 2  # the other arm has faded
    assert [new for new in chosen if new >= 0.1] == [old for old, new in zip(before, chosen, strict=True) if new >= 0.1]
    browser.point(f"{selector} .role-legend-symbol path", click=True)
    assert browser.wait(OPACITIES, lambda now: now == before, selector) == before


def test_the_pointer_on_a_curve_shows_its_run(browser: Browser, page: Path) -> None:
    browser.point(f"{chart('Evaluation top-1 accuracy')} .mark-symbol.role-mark path:nth-child(5)")
    text = browser.wait(
        "return document.querySelector('#vg-tooltip-element.visible')?.innerText ?? ''", lambda text: text != ""
    )
    result = next(r for r in results.read(page.parent)[0].results if r.id in text)
    assert result.label in text  # of the arm with the hostile name too: it is shown, not obeyed
    assert any(f"{row['eval/top1']:.5g}" in text for row in result.metrics if "eval/top1" in row)


def test_a_click_on_a_heading_sorts_its_table(browser: Browser) -> None:
    table = browser.run(
        """const buttons = [...document.querySelectorAll("th.number button")];
           const button = buttons.find((b) => b.textContent === "parameters");
           button.id = "parameters";
           button.closest("table").id = "sorted";
           return [...button.closest("tr").children].indexOf(button.parentElement)"""
    )
    shown = f"""return [...document.querySelectorAll("#sorted tbody tr")]
        .map((row) => Number(row.children[{table}].textContent.replaceAll(",", "")))"""
    before = browser.run(shown)
    assert before != sorted(before)
    browser.point("#parameters", click=True)
    assert browser.run(shown) == sorted(before)
    browser.point("#parameters", click=True)
    assert browser.run(shown) == sorted(before, reverse=True)
    assert browser.run("return document.querySelector('#sorted th[aria-sort]').ariaSort") == "descending"
    assert browser.console() == []
