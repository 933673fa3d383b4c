"""The page that follows a sweep: built again as runs end, whatever goes wrong with it, and still when that is over."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

import launch
from research import reports
from research.reports import live
from research.reports.document import Document, Section, Table, Verdict
from research.sweeps import results, store
from research.training import record
from tests.reports import folders
from tests.reports.browser import Browser, browse

STATES = {"plain/depth8/0": "failed", "plain/depth8/1": "running", "plain/depth8/2": "waiting"}
COUNTS = "1 waiting, 1 running, 3 finished, 1 failed"


def page(workdir: Path) -> str:
    return (workdir / "report.html").read_text()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "AT_LEAST", 0.05)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("live")
    folders.write_study(made, depths=(8,), status=STATES)
    return made


def wait(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def said_by(workdir: Path, words: list[str], until: Callable[[list[str]], bool]) -> list[str]:
    """What is said of reports that are built with these words, by the time that `until` holds."""
    said: list[str] = []
    with live.Live(workdir, words, said.append) as made:

        def there() -> bool:
            made.changed()
            return until(said)

        wait(there)
    return said


def test_a_live_page_says_how_far_the_runs_are_and_is_the_same_but_for_that(workdir: Path) -> None:
    assert launch.main(["report", str(workdir)]) == 0
    last = page(workdir)
    assert not live.BLOCK.search(last)
    assert launch.main(["report", str(workdir), "--live", "12"]) == 0
    following = page(workdir)
    assert COUNTS in following
    assert 'data-seconds="12.0"' in following
    assert '<meta http-equiv="refresh" content="12">' in following
    live.still(workdir)
    assert page(workdir) == last
    live.still(workdir)
    assert page(workdir) == last
    assert not list(workdir.glob(".*.partial"))


def test_what_a_run_calls_itself_does_not_end_the_page(tmp_path: Path) -> None:
    studies = folders.write_study(tmp_path, arms=("plain", "<!-- /live -->"), depths=(8,), status=STATES)
    reports.write([Document("<!-- live -->", "?")], studies, tmp_path)
    last = page(tmp_path)
    reports.write([Document("<!-- live -->", "?")], studies, tmp_path, live=1.0)
    live.still(tmp_path)
    assert page(tmp_path) == last


def test_runs_that_studies_share_are_counted_once(tmp_path: Path) -> None:
    folders.write_study(tmp_path, depths=(8,), status=STATES)
    entry = store.read_studies(tmp_path)[0]
    store.write_study(tmp_path, {**entry, "scale": "small"})
    assert live.counts(results.read(tmp_path)) == COUNTS


@pytest.mark.usefixtures("quick")
def test_the_page_follows_until_the_sweep_is_over_however_that_ends(tmp_path: Path) -> None:
    folders.write_study(tmp_path, depths=(8,), status=STATES)
    words = [sys.executable, launch.__file__, "report"]
    said: list[str] = []

    def interrupted() -> None:
        with live.Live(tmp_path, words, said.append) as made:
            made.changed()
            wait(lambda: bool(said))
            assert COUNTS in page(tmp_path)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert said == [f"the report follows: {tmp_path / 'report.html'}"]
    assert not live.BLOCK.search(page(tmp_path))


@pytest.mark.usefixtures("quick")
def test_a_report_that_cannot_be_built_is_said_once_and_tried_again(tmp_path: Path) -> None:
    folders.write_study(tmp_path, depths=(8,), status=STATES)
    damaged = next((tmp_path / "runs").iterdir()) / record.CONFIG
    whole = damaged.read_text()
    damaged.write_text("{")
    words = [sys.executable, launch.__file__, "report"]

    def until(said: list[str]) -> bool:
        if said:
            damaged.write_text(whole)
        return len(said) == 2

    first, second = said_by(tmp_path, words, until)
    assert first.startswith("the report cannot follow: error: ")
    assert "config.json is damaged" in first
    assert second.startswith("the report follows")


@pytest.mark.usefixtures("quick")
def test_one_that_takes_long_is_ended_with_the_sweep_and_built_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    slow = [sys.executable, "-c", f"import time; open({str(calls)!r}, 'a').write('x'); time.sleep(60)"]
    began = time.monotonic()
    said_by(tmp_path, slow, lambda said: calls.exists())
    assert time.monotonic() - began < 20
    busy = [sys.executable, "-c", f"open({str(calls)!r}, 'a').write('x'); sum(range(3_000_000))"]
    monkeypatch.setattr(live, "SHARE", 1e-6)
    with live.Live(tmp_path, busy, lambda line: None) as made:
        calls.unlink()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            made.changed()
            time.sleep(0.01)
    assert calls.read_text() == "x"


@pytest.mark.usefixtures("quick")
def test_a_sweep_shows_its_page_while_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    seen, still = list[str](), live.still
    monkeypatch.setattr(live, "SHARE", 1.0)
    argv = ["sweep", "digits", "--grid", "seed=0,1,2", "--threads", "1", "--population", "1"]
    monkeypatch.setattr(live, "still", lambda folder: (seen.append(page(Path(folder))), still(folder)))
    assert launch.main([*argv, "--budget.train", "8 epochs", "--workdir", str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert f"the report follows: {tmp_path / 'report.html'}" in out
    assert out[-1] == str(tmp_path / "report.html")
    assert "This page follows by itself" in seen[0]
    assert not live.BLOCK.search(page(tmp_path))
    assert json.loads((tmp_path / "study.json").read_text())["studies"][0]["name"] == "sweep"
    links = [path for path in (tmp_path / "tensorboard").rglob("*") if path.is_symlink()]
    assert len(links) == 3
    assert all(list(link.glob("events.*")) for link in links)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browse(tmp_path_factory.mktemp("profile")) as window:
        yield window


def long_document(workdir: Path, live_: float | None) -> Path:
    """A page of several screens, with verdicts to unfold and tables to search."""
    studies = folders.write_study(workdir, depths=(8, 20), status=STATES)
    frame = pl.DataFrame({"place": list(range(40))})
    sections = [Section(f"Section {n}", "words " * 200, [Table(f"Table {n}", frame)]) for n in range(4)]
    verdicts = [Verdict(f"claim {n}", "cannot tell", "so far") for n in range(14)]
    return Path(reports.write([Document("Live", "?", verdicts, sections)], studies, workdir, live=live_))


MARK = "window.old = true; return performance.timeOrigin"


@pytest.mark.chromium
def test_the_page_loads_itself_again_where_the_reader_was_until_all_is_over(browser: Browser, tmp_path: Path) -> None:
    browser.open(long_document(tmp_path, 1.5))
    assert "Going on: 1 waiting" in browser.run("return document.getElementById('live').innerText")
    browser.run("document.querySelector('details').open = true")
    browser.run("document.getElementById('study-1-3').scrollIntoView({behavior: 'instant'})")
    browser.run("scrollBy({top: 137, behavior: 'instant'})")
    at = "return Math.round(document.getElementById('study-1-3').getBoundingClientRect().top)"
    before, loaded = browser.run(at), browser.run(MARK)
    browser.wait("return window.old !== true && document.readyState === 'complete'", lambda done: done)
    assert browser.run("return performance.timeOrigin") != loaded
    assert abs(browser.wait(at, lambda now: abs(now - before) <= 2) - before) <= 2
    assert browser.run("return document.querySelector('details').open")
    assert browser.run("return scrollY") > 500

    browser.run("document.querySelector('.search input').focus()")
    loaded = browser.run(MARK)
    time.sleep(3)
    assert browser.run("return window.old") is True  # not while somebody types
    live.still(tmp_path)
    browser.run("document.activeElement.blur()")
    browser.wait("return window.old !== true && document.readyState === 'complete'", lambda done: done)
    assert browser.run("return document.getElementById('live')") is None
    browser.run(MARK)
    time.sleep(3)
    assert browser.run("return window.old") is True  # the last page stays
    assert browser.console() == []
