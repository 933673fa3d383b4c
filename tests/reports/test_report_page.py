"""The written report: self-contained, inert to hostile text, complete, the same bytes for the same records."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from research import config, reports
from research.reports import html, wording
from research.reports.document import Document, Section, Table, Verdict
from research.sweeps import results
from research.sweeps.results import StudyRecord
from tests.reports import folders

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Elements(HTMLParser):
    """Every element with its attributes, and the text of the page by element."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open, data))

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.found if attribute in attributes]


def parse(path: Path) -> Elements:
    elements = Elements()
    elements.feed(path.read_text())
    return elements


def document(study: StudyRecord, **fields: object) -> Document:
    return Document(**{"title": "Depth", "question": study.question, **fields})


def write(studies: list[StudyRecord], workdir: Path) -> Path:
    return Path(reports.write([document(study) for study in studies], studies, workdir))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study and its report."""
    folder = tmp_path_factory.mktemp("report")
    write(folders.write_study(folder, depths=(8, 20), seeds=2), folder)
    return folder


def test_the_page_asks_for_nothing_outside_itself_but_run_records(workdir: Path) -> None:
    page = parse(workdir / "report.html")
    assert not [a for tag, a in page.found if tag == "script" and "src" in a]
    assert {tag for tag, _ in page.found} & {"iframe", "object", "embed", "base", "form"} == set()
    addresses = page.values("src") + page.values("href")
    relative = [a for a in addresses if not a.startswith(("data:", "#"))]
    assert relative
    for address in relative:
        assert re.fullmatch(r"runs/[0-9a-f]{16}/summary\.json", address), address
        assert (workdir / address).is_file()
    styles = "".join(text for tag, text in page.texts if tag == "style")
    assert "url(" not in styles
    assert "@import" not in styles
    assert (workdir / "report.html").stat().st_size < 3_000_000


def test_every_finished_run_is_linked(workdir: Path) -> None:
    html, markdown = parse(workdir / "report.html").values("href"), (workdir / "README.md").read_text()
    for result in results.read(workdir)[0].results:
        assert f"runs/{result.id}/summary.json" in html
        assert f"(<runs/{result.id}/summary.json>)" in markdown


def test_every_number_of_every_run_is_in_the_page_with_all_its_digits(workdir: Path) -> None:
    elements = parse(workdir / "report.html")
    exact, plain = set(elements.values("title")), {text for _, text in elements.texts}
    for result in results.read(workdir)[0].results:
        for key in ("eval/top1", "best/top1", "eval_train/top1", "eval/loss", "train_seconds", "compile_seconds"):
            assert repr(result.summary[key]) in exact, key
            assert wording.value(key, result.summary[key]) in plain
        for key in ("params", "macs", "activations"):
            assert f"{result.summary[key]:,}" in plain


def test_the_same_records_give_the_same_bytes(workdir: Path, tmp_path: Path) -> None:
    names = ["report.html", "README.md", "results.csv", "results.parquet"]
    names += [f"figures/{path.name}" for path in (workdir / "figures").glob("*.svg")]
    assert len(names) > 3
    before = {name: (workdir / name).read_bytes() for name in names}
    (workdir / "figures" / "of-an-older-report.svg").write_text("<svg/>")
    write(results.read(workdir), workdir)
    assert {name: (workdir / name).read_bytes() for name in names} == before
    write(folders.write_study(tmp_path / "elsewhere", depths=(8, 20), seeds=2), tmp_path / "elsewhere")
    assert {name: (tmp_path / "elsewhere" / name).read_bytes() for name in names} == before
    left = sorted(str(path.relative_to(workdir)) for path in workdir.rglob("*") if path.is_file())
    assert [path for path in left if not path.startswith(("runs/", ".lease/"))] == sorted([*names, "study.json"])


def test_results_parquet_holds_the_summaries(workdir: Path) -> None:
    frame = pl.read_parquet(workdir / "results.parquet")
    study = results.read(workdir)[0]
    assert frame.height == len(study.results)
    rows = {row["id"]: row for row in frame.iter_rows(named=True)}
    for result in study.results:
        row = rows[result.id]
        assert {key: row[key] for key in result.summary} == result.summary
        assert (row["label"], row["arm"], row["budget"], row["seed"]) == (
            result.label,
            result.arm,
            result.budget,
            result.seed,
        )
        assert row["model.name"] == result.config["model"]["name"]
        assert (workdir / row["path"] / "config.json").is_file()
    varying = set(frame.columns) & set(config.flatten(study.results[0].config))
    assert varying == {"seed", "model.name"}


def test_figures_are_svg_files_that_the_markdown_shows(workdir: Path) -> None:
    shown = re.findall(r"!\[[^\]]*\]\((figures/[^)]+\.svg)\)", (workdir / "README.md").read_text())
    assert sorted(shown) == sorted(f"figures/{p.name}" for p in (workdir / "figures").iterdir())
    for name in shown:
        svg = (workdir / name).read_text()
        assert svg.startswith("<svg")
        assert "click" not in svg  # a file does not answer


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    studies = folders.write_study(tmp_path, arms=("plain", HOSTILE), depths=(8,), seeds=1, name=HOSTILE)
    verdict = Verdict(HOSTILE, "cannot tell", HOSTILE)
    table = Table(HOSTILE, pl.DataFrame({HOSTILE: [HOSTILE], "run": ["no such run"]}), HOSTILE)
    page = Document(HOSTILE, HOSTILE, [verdict], [Section(HOSTILE, f"`{HOSTILE}`", [table])])
    elements = parse(Path(reports.write([page], studies, tmp_path)))
    assert not [text for tag, text in elements.texts if tag == "script" and text.startswith("alert")]
    assert not elements.values("onerror")
    assert "img" not in {tag for tag, a in elements.found if not a.get("src", "").startswith("data:image/svg+xml;")}
    data = [text for tag, text in elements.texts if tag == "script" and text.startswith("{")]
    assert any(HOSTILE in json.dumps(json.loads(text)) for text in data)  # it is there, as data
    outside_code = re.sub("`[^`]*`", "", (tmp_path / "README.md").read_text())
    assert "<script" not in outside_code
    for figure in (tmp_path / "figures").iterdir():
        assert "<script" not in figure.read_text()


STATES = {
    "finished": {},
    "mixed": {"plain/depth8/0": "failed", "plain/depth8/1": "running", "residual_a/depth8/0": "waiting"},
    "none finished": {f"{arm}/depth8/{s}": "running" for arm in ("plain", "residual_a") for s in (0, 1)},
    "nothing begun": {f"{arm}/depth8/{s}": "waiting" for arm in ("plain", "residual_a") for s in (0, 1)},
}


@pytest.mark.parametrize("states", STATES.values(), ids=STATES)
def test_a_report_can_be_written_at_any_time(states: dict[str, str], tmp_path: Path) -> None:
    studies = folders.write_study(tmp_path, depths=(8,), seeds=2, status=states)
    elements = parse(write(studies, tmp_path))
    text = " ".join(text for tag, text in elements.texts if tag not in ("script", "style"))
    done = sum(r.status == "finished" for r in studies[0].results)
    assert f"{done} of 4 runs finished" in text
    for result in studies[0].results:
        if result.status != "finished":
            assert result.id in text
            assert result.status in text
        assert (f"runs/{result.id}/" in elements.values("href")) == (result.status == "running")
    assert ("loss is not finite at step 66" in text) == ("failed" in states.values())
    assert ("No run has finished yet." in text) == (done == 0)
    assert ("No run has recorded anything yet." in text) == (set(states.values()) == {"waiting"})
    frame = pl.read_parquet(tmp_path / "results.parquet")
    assert frame["status"].to_list() == [r.status for r in sorted(studies[0].results, key=lambda r: (r.arm, r.seed))]


def test_a_report_while_the_study_runs_says_so(tmp_path: Path) -> None:
    """Two runs are going, one of which is writing a line at this moment; one waits."""
    states = {"plain/depth8/0": "running", "plain/depth8/1": "running", "residual_a/depth8/0": "waiting"}
    (study,) = folders.write_study(tmp_path, depths=(8,), seeds=2, status=states)
    folder = tmp_path / "runs" / folders.run_id("plain", 8, 0)
    whole = len(study.results[0].metrics)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 67, "epoch": 6.09, "train/lo')
    studies = results.read(tmp_path)
    assert len(studies[0].results[0].metrics) == whole
    elements = parse(write(studies, tmp_path))
    text = " ".join(text for tag, text in elements.texts if tag not in ("script", "style"))
    said = "Not the end: 2 running, 1 waiting of 4 runs. What follows is of the runs that are finished."
    assert said in text
    assert said in (tmp_path / "README.md").read_text()
    (folder / "summary.json").write_text(json.dumps(folders.summary("finished", 8, 66, {"eval/top1": 0.9})))
    assert "Not the end: 1 running, 1 waiting of 4 runs." in write(results.read(tmp_path), tmp_path).read_text()


def test_a_study_without_runs_and_no_study_at_all(tmp_path: Path) -> None:
    empty = StudyRecord("sweep", "", "Anything?", "python launch.py sweep digits --workdir DIR", [])
    assert "no runs yet" in Path(reports.write([Document("Empty", "?")], [empty], tmp_path)).read_text()
    assert "<main>" in Path(reports.write([], [], tmp_path)).read_text()
    assert pl.read_parquet(tmp_path / "results.parquet").height == 0


def test_runs_of_a_merged_folder_are_linked_where_they_are(tmp_path: Path) -> None:
    here = folders.write_study(tmp_path / "here", depths=(8,), seeds=1)
    there = folders.write_study(tmp_path / "there", arms=("plain",), depths=(20,), seeds=1)
    merged = results.merge([("here", here), ("there", there)])
    path = write(merged, tmp_path / "here")
    addresses = parse(path).values("href")
    for result in merged[0].results:
        record = next(a for a in addresses if a.endswith(f"{result.id}/summary.json"))
        assert (path.parent / record).resolve() == Path(result.path).resolve() / "summary.json"


def test_two_studies_share_a_page_and_keep_their_figures_apart(tmp_path: Path) -> None:
    folders.write_study(tmp_path, depths=(8,), seeds=1)
    studies = folders.write_study(tmp_path, depths=(8,), seeds=1, name="another")
    elements = parse(write(studies, tmp_path))
    assert [a for tag, a in elements.found if tag == "article"] == [{"id": "study-1"}, {"id": "study-2"}]
    ids = elements.values("id")
    assert len(ids) == len(set(ids))
    assert {p.name.split("-smoke-")[0] for p in (tmp_path / "figures").iterdir()} == {"residual-vs-plain", "another"}
    assert set(pl.read_parquet(tmp_path / "results.parquet")["study"]) == {"residual_vs_plain", "another"}


def test_disagreements_between_runs_are_said_aloud(tmp_path: Path) -> None:
    studies = folders.write_study(tmp_path, depths=(8,), seeds=2)
    studies[0].results[0].environment["device"]["device_kind"] = "NVIDIA H100"
    studies[0].results[1].environment["code_digest"] = "0" * 64
    text = write(studies, tmp_path).read_text()
    assert "The runs do not agree on device.device_kind: NVIDIA H100 (runs: 1), cpu (runs: 3)." in text
    assert "The seeds of plain/depth8 do not agree on code_digest" in text
    assert text.count("do not agree on") == 2


def test_a_kept_script_that_is_not_whole_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = html.bundle()
    (file,) = (tmp_path / "convscale").iterdir()
    kept = file.read_text()
    assert html.bundle() == made
    for damaged in (kept[:1000], kept.replace("vega", "evil", 1), ""):
        file.write_text(damaged)
        assert html.bundle() == made
        assert file.read_text() == kept
    file.unlink()
    (tmp_path / "convscale").rmdir()
    (tmp_path / "convscale").touch()  # where nothing can be kept
    assert html.bundle() == made
