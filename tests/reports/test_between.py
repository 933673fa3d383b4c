"""Folders of one study side by side: pairs of the same arm, budget and seed, on numbers worked out by hand."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import launch
from research.reports import between, sweep
from research.reports.document import Document, Table
from research.sweeps import results
from research.sweeps.results import Result, StudyRecord
from research.training import record
from tests.reports import folders

OWN = Document("Depth", "?")


def run(arm: str, seed: int, error: float | None, where: str, *, rate: float = 0.1, run_id: str = "") -> Result:
    """A run in a folder; without an error it failed. Every folder has code of its own."""
    return Result(
        id=run_id or f"{where}{arm}{seed}",
        arm=arm,
        budget="d",
        seed=seed,
        path=f"{where}/runs/x",
        status="failed" if error is None else "finished",
        config={"optimizer": {"learning_rate": rate}, "notes": where, "seed": seed},
        environment={"code_digest": where * 32, "git_commit": where * 20, "versions": {"jax": "0.10.2"}},
        summary={} if error is None else {"eval/top1": 1 - error, "best/top1": 1 - error},
    )


def study(where: str, errors: dict[str, list[float | None]], **more: Any) -> tuple[str, StudyRecord]:
    runs = [run(arm, seed, error, where, **more) for arm, row in errors.items() for seed, error in enumerate(row)]
    return f"runs-{where}", StudyRecord("s", "smoke", "?", "", runs)


OLD = study("aa", {"a": [0.30, 0.20, 0.25], "b": [0.4, 0.4, 0.4]})
NEW = study("bb", {"a": [0.28, 0.19, 0.22], "b": [0.5, 0.52, 0.48]})


def rows(document: Document, place: int = 0) -> list[dict[str, Any]]:
    table = document.sections[0].items[place]
    assert isinstance(table, Table)
    return table.frame.to_dicts()


def test_differences_are_later_minus_first_and_judged_together() -> None:
    """With two degrees of freedom p is 1 - t / sqrt(t^2 + 2), and t(0.975) is 4.302653.

    a: -0.02, -0.01, -0.03, so t = 0.02 sqrt(3) / 0.01 and p = 0.0742; b: 0.1, 0.12, 0.08, so p = 0.0131; the mean of
    both: 0.04, 0.055, 0.025, so p = 0.0438. Holm: 3 x 0.0131, 2 x 0.04382, and no less for the last.
    """
    found = rows(between.compared(OWN, [OLD, NEW]))
    versus = "runs-bb against runs-aa"
    assert [row["comparison"] for row in found] == [
        f"all 2 arms and budgets, mean: {versus}",
        f"a/d: {versus}",
        f"b/d: {versus}",
    ]
    assert [row["difference"] for row in found] == pytest.approx([0.04, -0.02, 0.1])
    assert [row["p"] for row in found] == pytest.approx([0.08763, 0.08763, 0.03922], abs=1e-5)
    assert [row["verdict"] for row in found] == ["cannot tell", "cannot tell", "worse"]
    assert (found[1]["low"], found[1]["high"]) == pytest.approx((-0.04484, 0.00484), abs=1e-5)
    assert (found[1]["before"], found[1]["after"]) == pytest.approx((0.25, 0.23))
    assert (found[2]["before"], found[2]["after"]) == pytest.approx((0.4, 0.5))
    assert [row["pairs"] for row in found] == ["3/3"] * 3


def test_the_first_screen_has_the_mean_and_what_can_be_told() -> None:
    verdicts = between.compared(OWN, [OLD, NEW]).verdicts
    assert [(v.verdict, v.claim.partition(":")[0]) for v in verdicts] == [
        ("cannot tell", "all 2 arms and budgets, mean"),
        ("worse", "b/d"),
    ]
    assert "+10.00 percentage points, 95% interval +5.03 to +14.97; p 0.039 (Holm); 3 of 3 pairs" in verdicts[1].detail


def test_the_code_and_the_keys_that_differ_are_said() -> None:
    other = study("bb", {"a": [0.28, 0.19, 0.22], "b": [0.5, 0.52, 0.48]}, rate=0.2)
    section = between.compared(OWN, [OLD, other]).sections[0]
    assert "`aaaaaaaaaaaaaaaa`, commit `aaaaaaaaaaaaaaaa`; runs-bb has" in section.text
    assert "`git diff aaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbb -- research`" in section.text
    configs, environment = (rows(between.compared(OWN, [OLD, other]), place) for place in (1, 2))
    # Notes change no number and are left out; seeds are the same in a pair.
    assert configs == [{"key": "optimizer.learning_rate", "before": "0.1", "after": "0.2", "pairs of runs": 6}]
    assert [row["key"] for row in environment] == ["code_digest", "git_commit"]
    assert "The code is the same" not in section.text


def test_a_run_that_both_have_is_counted_and_not_compared() -> None:
    shared = OLD[1].results[0]
    new = dataclasses.replace(NEW[1], results=[shared, *NEW[1].results[1:5], run("c", 0, 0.1, "bb")])
    document = between.compared(OWN, [OLD, ("new", new)])
    assert [row["pairs"] for row in rows(document)] == ["1/1", "2/2", "2/2"]
    assert "5 runs have the same arm, budget and seed in both folders: 4 differ" in document.sections[0].text
    assert "1 are the same run" in document.sections[0].text
    assert "Only in new: c/d." in document.sections[0].text
    assert between.compared(OWN, [OLD, OLD]).verdicts == []


def test_what_failed_or_has_not_begun_breaks_its_pair_only() -> None:
    new = study("bb", {"a": [0.28, None, 0.22]})
    waiting = dataclasses.replace(new[1].results[0], status="waiting", config={}, environment={}, summary={})
    new = new[0], dataclasses.replace(new[1], results=[waiting, *new[1].results[1:]])
    (row,) = rows(between.compared(OWN, [OLD, new]))
    assert (row["pairs"], row["verdict"]) == ("1/3", "cannot tell")
    assert row["difference"] == pytest.approx(-0.03)
    assert (row["before"], row["after"]) == pytest.approx((0.25, 0.22))
    assert between.compared(OWN, [OLD]) is OWN


def test_a_sweep_in_two_folders_is_not_pooled() -> None:
    (merged,) = results.merge([(name, [record]) for name, record in (OLD, NEW)])
    table = sweep.sweep_document(merged.results, ["optimizer.learning_rate"]).sections[0].items[0]
    assert isinstance(table, Table)
    assert table.frame["folder"].to_list() == ["(first)", "runs-bb"]
    assert table.frame["runs"].to_list() == ["6/6", "6/6"]


def test_two_folders_of_a_study_are_reported_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for where, epochs in (("x/old", 12), ("y/old", 10), ("y/other", 4)):
        folders.write_study(tmp_path / where, depths=(8, 20), seeds=3, epochs=epochs)
    changed = tmp_path / "y" / "old" / "study.json"
    ids = [result.id for result in results.read(tmp_path / "y/old")[0].results]
    text = json.dumps(record.read_json(changed))
    for run_id in ids:  # other code gives other identities
        (tmp_path / "y/old/runs" / run_id).rename(tmp_path / "y/old/runs" / run_id[::-1])
        text = text.replace(run_id, run_id[::-1])
    record.write_json(changed, json.loads(text))
    assert launch.main(["report", str(tmp_path / "x/old"), str(tmp_path / "y/old")]) == 0
    path = Path(capsys.readouterr().out.splitlines()[-1])
    assert path == tmp_path / "x/old/merged/report.html"
    markdown = (path.parent / "README.md").read_text()
    assert "## old-2 against old" in markdown
    assert "all 4 arms and budgets, mean: old-2 against old" in markdown
    assert "12 runs have the same arm, budget and seed in both folders: 12 differ" in markdown
    assert "The code is the same (digest `c0dec0dec0dec0de`)" in markdown


def test_folders_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert results.folder_names(["a/run", "b/run/", ".", "gs://c/run"]) == ["run", "run-2", tmp_path.name, "run-3"]
