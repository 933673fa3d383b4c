"""Names, questions and reasons from anywhere: shown as text, in tables that stay tables, and written nowhere else."""

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import launch
from research import reports
from research.config import Config, ModelConfig, replace
from research.reports import markdown
from research.reports.document import Document, Section, Table, Verdict
from research.sweeps import results, store
from research.sweeps.results import Result, StudyRecord
from research.training import record
from tests.reports import folders
from tests.reports.test_report_page import parse

NAMES = {
    "script": "</script><script>alert(1)</script>",
    "attribute": '"><img src=x onerror=alert(1)>',
    "folder": "../../escape",
    "rows": "a | b\n| --- |\n`code` $x$ **bold** [link](http://x)",
    "long": "w" * 300,
    "formula": "=HYPERLINK(1)",
    "broken": "not \udcff a \x1b[31mname\x00",
    "numbered": "view_12",
    "expression": 'a\\"+warn(1)+"\u2028',
}
STUDY = '''"""{question}"""
from research.reports import figures, tables
from research.reports.document import Document, Figure, Section, Verdict

SCALES = ("smoke",)

def runs(scale):
    return []

def report(results):
    rows = [{{"x": r.budget, "y": r.summary["eval/top1"], "arm": r.arm, "run": r.id}} for r in tables.finished(results)]
    chart = figures.metric_against(tables.frame(rows), "x", "y", "arm", title_x=results[0].arm)
    figure = Figure(results[0].arm, chart, results[0].budget)
    verdict = Verdict(results[0].arm, "cannot tell", results[0].budget)
    return Document(results[0].arm, results[0].arm, [verdict], [Section(results[0].arm, results[0].arm, [figure])])
'''


def cells(line: str) -> int:
    """How many cells a row of a Markdown table has."""
    return re.sub(r"\\.", "", line).count("|") - 1


def tables_of(text: str) -> list[list[str]]:
    return [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]


def assert_markdown(text: str) -> None:
    """Tables are tables, and no text of a name is markup."""
    for rows in tables_of(text):
        assert re.fullmatch(r"\|( -+:? \|)+", rows[1])
        assert {cells(row) for row in rows} == {cells(rows[1])}, rows[0]
    assert not re.search(r"<(?!runs/)[a-z/]", re.sub(r"`[^`\n]*`", "", re.sub(r"\]\(<[^>]*>\)", "", text)))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_from_a_study_file_stays_text(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(STUDY.format(question="Why?"))
    workdir, runs = Path("deep/er/work"), []
    for seed, status in enumerate(("finished", "finished", "failed")):
        cfg = replace(Config(model=ModelConfig("resnet8"), seed=seed), **{"data.name": name, "notes": name})
        folder = workdir / "runs" / f"{seed:016x}"
        folders.write_run(folder, cfg, "plain", 8, status=status, epochs=2)
        runs.append({"id": folder.name, "arm": name, "budget": name, "seed": seed, "reason": name})
        if status == "failed":
            record.write_json(folder / record.SUMMARY, {"status": "failed", "step": 3, "reason": name})
    entry = {"name": "own.py", "scale": name, "question": name, "command": name, "axes": [], "runs": runs}
    store.write_study(workdir, entry)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert launch.main(["report", str(workdir)]) == 0, capsys.readouterr().err

    shown = results.readable(name)
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    own = {path.relative_to(tmp_path / workdir).as_posix() for path in made if "__pycache__" not in path.parts}
    figures = {path for path in own if path.startswith("figures/")}
    assert own - figures == {"report.html", "README.md", "results.csv", "results.parquet"}
    assert len(figures) == 4
    assert all(re.fullmatch(r"figures/[a-z0-9-]{1,105}\.svg", path) for path in figures)

    page = parse(workdir / "report.html")
    assert not page.values("onerror")
    assert "alert(1)" not in {text.strip() for tag, text in page.texts if tag == "script"}
    assert " ".join(shown.split()) in " ".join(" ".join(text for _, text in page.texts).split())
    data = [json.loads(text) for tag, text in page.texts if tag == "script" and text.startswith("{")]
    charts = [chart for chart in data if "mark" in chart or "layer" in chart or "spec" in chart]
    assert len(charts) == 4
    assert all(json.dumps(shown) in json.dumps(chart) for chart in charts), "a name is not renamed in a chart"
    for figure in figures:
        assert not list(ElementTree.parse(workdir / figure).iter("{*}script"))
    assert_markdown((workdir / "README.md").read_text())

    assert set(pl.read_parquet(workdir / "results.parquet")["arm"]) == {shown}
    with (workdir / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["arm"] for row in rows} == {"'=HYPERLINK(1)" if name == NAMES["formula"] else shown}
    assert float(rows[0]["train_seconds"]) > 0
    assert rows[0]["eval/per_class_recall"] == "[0.9, 0.5, 1.0]"


TAGS = frozenset(
    re.findall(
        r"\w+",
        "html head meta title link style body main article header p span h1 h2 section table thead tbody tr th td "
        "details summary dl dt dd div nav a figure figcaption strong label input output button code script",
    )
)
ANY = st.text(st.sampled_from("aB1 |\\`*_[]()<>#$~\n\t\"'/.-+=!&{}@:") | st.characters(), min_size=1, max_size=40)


@given(ANY, ANY, ANY)
@settings(max_examples=60)
def test_any_text_stays_one_cell_and_one_paragraph(
    tmp_path_factory: pytest.TempPathFactory, arm: str, question: str, reason: str
) -> None:
    arm, question, reason = (results.readable(text) for text in (arm, question, reason))
    run = Result("0" * 16, arm, reason, 0, "runs/x", "failed", summary={"reason": reason})
    study = StudyRecord("own.py", arm, question, reason, [run])
    table = Table(arm, pl.DataFrame({"arm": [arm], "reason": [reason]}), question)
    page = Document(arm, question, [Verdict(question, "better", reason)], [Section(arm, question, [table])])
    folder = tmp_path_factory.mktemp("any")
    reports.write([page], [study], folder)
    assert {path.name for path in folder.iterdir()} == {"report.html", "README.md", "results.csv", "results.parquet"}
    elements = parse(folder / "report.html")
    tags = {tag for tag, _ in elements.found}
    assert tags <= TAGS
    links = elements.values("href")
    assert all(re.fullmatch(r"#study-1(-\d+)?|data:,|\S*runs/x/summary\.json", link) for link in links)
    assert_markdown((folder / "README.md").read_text())


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("- a", "\\- a"),
        ("12. a", "12\\. a"),
        ("=== a", "\\=== a"),
        ("$x$ a|b", "\\$x\\$ a\\|b"),
        ("see `x|y` there", "see `x|y` there"),
    ],
)
def test_paragraphs_begin_no_list_and_keep_their_spaces(text: str, written: str) -> None:
    from research.reports import wording

    assert markdown._prose(wording.paragraphs(text)) == [written]
