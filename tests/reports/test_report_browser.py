"""The report in a real browser: charts are drawn and answer, tables sort and are searched, nothing is asked for.

In light and dark, at the width of a phone too; nothing goes wrong on the console.
"""

import json
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from research import reports
from research.reports import figures, probed
from research.reports.comparison import Claim, Family
from research.reports.document import Document, Figure, Section
from research.sweeps import results
from tests.reports import folders
from tests.reports.browser import Browser, browse

pytestmark = pytest.mark.chromium
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
GRADIENTS = "Gradient norm of each layer's kernel, after training"
OPACITIES = """return [...document.querySelectorAll(arguments[0] + " .mark-line path")]
    .map((path) => Number(path.getAttribute("opacity") ?? path.getAttribute("stroke-opacity") ?? 1))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every kind of chart and table; one arm's name would be a script if anything took it for HTML."""
    workdir = tmp_path_factory.mktemp("report")
    states = {"plain/depth20/0": "failed", f"{HOSTILE}/depth20/1": "running"}
    studies = folders.write_study(
        workdir, arms=("plain", HOSTILE), depths=(8, 20), seeds=3, status=states, probes=("gradient_norms",)
    )
    frame = pl.DataFrame({"depth": [8, 20, 8], "top1": [0.9, 0.8, 0.7], "arm": ["plain", HOSTILE, HOSTILE]})
    own = [
        Figure("Lines", figures.metric_against(frame, "depth", "top1", "arm")),
        Figure("Cells", figures.heat_map(frame, "depth", "arm", "top1")),
        Figure("Nothing", figures.metric_against(frame.clear(), "depth", "top1", "arm")),
        probed.figure(studies[0].results, "gradient_norms", "last"),
    ]
    family = Family(
        [Claim(f"{HOSTILE} against {n}", "test error", {0: 0.2, 1: 0.3}, {0: n, 1: 0}, 2) for n in range(9)]
    )
    sections = [Section("Own", "", [*own, family.table()])]
    return Path(reports.write([Document("Depth", "?", family.verdicts(), sections)], studies, workdir))


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browse(tmp_path_factory.mktemp("profile")) as window:
        window.open(page)
        window.draw_all()
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
        GRADIENTS,
        "Evaluation top-1 accuracy",
        "Training-set top-1 accuracy",
        "Training loss",
    ]
    for title, state, count, width in drawn:
        assert (state, count) == ("yes", 1), title
        assert 800 < width < 1100, title
    assert browser.console() == []
    assert browser.run("return document.title") == "Depth"


def test_nothing_is_asked_for_but_the_file_itself(browser: Browser, page: Path) -> None:
    asked = [address for address in browser.requests() if not address.startswith(("data:", "chrome:", "about:"))]
    assert asked == [page.as_uri()]
    assert browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []


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


def test_a_click_on_a_point_opens_the_record_of_its_run(browser: Browser, page: Path) -> None:
    for title, mark in (("Evaluation top-1 accuracy", "path:nth-child(5)"), (GRADIENTS, "path:nth-child(3)")):
        browser.point(f"{chart(title)} .mark-symbol.role-mark {mark}", click=True)
        addresses = browser.wait_for_windows()
        assert len(addresses) == 1, title
        record = Path(urllib.parse.unquote(urllib.parse.urlsplit(addresses[0]).path))
        assert record.is_relative_to(page.parent / "runs"), title
        assert "train_seconds" in json.loads(record.read_text()), title


def test_a_search_leaves_the_rows_with_every_word(browser: Browser, page: Path) -> None:
    table = "figure.table:has(.search input[aria-label='Search rows of Every finished run'])"
    shown = (
        f"return [...document.querySelectorAll({json.dumps(table)} + ' tbody tr')].filter((r) => r.checkVisibility())"
    )
    every = len(browser.run(f"{shown}.map((r) => r.textContent)"))
    assert every == sum(r.status == "finished" for r in results.read(page.parent)[0].results)
    browser.run(f"document.querySelector({json.dumps(table)}).scrollIntoView()")
    browser.type(f"{table} input", "plain depth8")
    found = browser.run(f"{shown}.map((r) => r.children[0].textContent + r.children[1].textContent)")
    assert found == ["plaindepth8"] * 3
    count = f"return document.querySelector({json.dumps(table)} + ' output').textContent"
    assert browser.run(count) == f"3 of {every} rows"
    browser.type(f"{table} input", "<img nothing such")
    assert browser.run(f"{shown}.length") == 0
    browser.type(f"{table} input", "")
    assert browser.run(f"{shown}.length") == every


# Every element with text of its own: its text, size in pixels, colour, and the colours behind it, nearest first.
TEXTS = """
document.querySelectorAll("details").forEach((one) => { one.open = true; });
const aside = "noscript, .vega-actions, .search, .mark-text.role-mark", own = (n) => n.nodeType === 3 && n.data.trim();
return [...document.querySelectorAll("main *, main svg text")]
  .filter((element) => element.checkVisibility() && !element.closest(aside) && [...element.childNodes].some(own))
  .map((element) => {
    const style = getComputedStyle(element), behind = [];
    for (let at = element; at; at = at.parentElement) behind.push(getComputedStyle(at).backgroundColor);
    const colour = element instanceof SVGElement ? style.fill : style.color;
    return [element.textContent.trim().slice(0, 60), parseFloat(style.fontSize), colour, behind, element.tagName];
  })"""


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance of an sRGB colour (0 to 255), as WCAG 2.2 defines it."""
    parts = [(c / 255) / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def rgb(text: str) -> tuple[float, ...]:
    """Red, green, blue and alpha of `rgb(...)` or `rgba(...)`."""
    found = tuple(float(part) for part in re.findall(r"[0-9.]+", text))
    return found if len(found) == 4 else (*found, 1.0)


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """WCAG's contrast of two colours: 1 to 21."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_what_the_standard_says() -> None:
    assert contrast((255, 255, 255), (0, 0, 0)) == pytest.approx(21)
    assert contrast(rgb("rgb(118, 118, 118)"), rgb("rgba(255, 255, 255, 1)")) == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("width", [None, 390], ids=["window", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_read_in_both_schemes(browser: Browser, page: Path, dark: bool, width: int | None) -> None:
    browser.emulate(dark=dark, width=width)
    try:
        browser.open(page)
        browser.draw_all()
        texts = browser.run(TEXTS)
        assert len(texts) > 300
        body = rgb(browser.run("return getComputedStyle(document.body).backgroundColor"))
        assert (luminance(body) < 0.05) == dark
        for text, size, colour, behind, tag in texts:
            ground = next(rgb(one) for one in behind if rgb(one)[3] == 1)
            # 4.5 is what WCAG 2.2 asks of small text at level AA.
            assert contrast(rgb(colour), ground) >= 4.5, (text, tag, colour, ground)
            assert size >= 12, (text, size)
        assert browser.console() == []
    finally:
        browser.emulate()


def test_a_phone_scrolls_tables_and_not_the_page(browser: Browser, page: Path) -> None:
    browser.emulate(width=390)
    try:
        browser.open(page)
        browser.draw_all()
        assert browser.run("return [innerWidth, document.documentElement.scrollWidth]") == [390, 390]
        first = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom < innerHeight"
        assert browser.run(first, ".question")
        assert browser.run(first, ".verdicts tbody tr:nth-child(2)")
        wide = browser.run(
            """return [...document.querySelectorAll(".scroll")].map((box) => {
                 const edges = box.getBoundingClientRect();
                 return [edges.left >= 0 && edges.right <= innerWidth, box.scrollWidth > box.clientWidth];
               })"""
        )
        assert all(inside for inside, _ in wide)
        assert any(scrolls for _, scrolls in wide)
        drawn = browser.run(
            """return [...document.querySelectorAll(".drawing svg.marks, .drawing canvas")]
                 .map((mark) => mark.getBoundingClientRect().right <= innerWidth)"""
        )
        assert len(drawn) > 4
        assert all(drawn)
    finally:
        browser.emulate()


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
