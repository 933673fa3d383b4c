"""Studies that ran to their end and are kept: complete, by one code at clean commits, their reports to be had again."""

import re
import shutil
from pathlib import Path

import polars
import pytest

import experiments
import launch
from research.sweeps import plan, results
from tools import keep_study

KEPT = sorted(folder.name for folder in keep_study.KEPT.iterdir())


def drawn(drawing: Path) -> tuple[list[str], list[str]]:
    """Its words, and its lines in the coordinates of their frame: means, bars and curves."""
    text = drawing.read_text()
    return re.findall(r">([^<>]+)</text>", text), re.findall(r' d="([^"]+)"', text)


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_report_is_what_its_records_say(name: str, tmp_path: Path) -> None:
    """Every file of it, byte for byte; what differs is to be made anew by `python tools/keep_study.py --again`.

    Of drawings, their words and lines: where words stand depends on the fonts of a machine.
    """
    kept = keep_study.KEPT / name
    keep_study.copy_records(kept, tmp_path)
    records = {file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()}
    assert launch.main(["report", str(tmp_path)]) == 0
    made = {file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()}
    assert made == {file.relative_to(kept) for file in kept.rglob("*") if file.is_file()}
    assert {"report.html", "README.md", "results.csv", "results.parquet"} <= {str(file) for file in made - records}
    for file in sorted(made - records):
        if file.suffix == ".parquet":  # compressed, so that another version of its library may write other bytes
            assert polars.read_parquet(tmp_path / file).equals(polars.read_parquet(kept / file)), file
        elif file.suffix == ".svg":
            words, lines = drawn(kept / file)
            assert len(words) > 3
            assert len(lines) > 3
            assert drawn(tmp_path / file) == (words, lines), file
        else:
            assert (tmp_path / file).read_bytes() == (kept / file).read_bytes(), file


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_study_ran_all_that_it_plans_by_the_same_code_at_clean_commits(name: str) -> None:
    [study] = results.read(keep_study.KEPT / name)
    planned = experiments.load(name).runs(study.scale)
    plan.check(planned)
    assert {p.label for p in planned} <= {r.label for r in study.results}
    assert all(r.status == "finished" for r in study.results)
    code: dict[str, set[str]] = {}  # what a network's runs use: its model's file, and all that is not a model
    for r in study.results:
        code.setdefault(r.config["model"]["name"], set()).add(r.environment["code_digest"])
    assert all(len(digests) == 1 for digests in code.values())
    assert not any(r.environment["git_dirty"] for r in study.results)


def test_what_is_kept_is_what_a_report_needs_and_no_more(tmp_path: Path) -> None:
    workdir, copy = tmp_path / "workdir", tmp_path / "copy"
    shutil.copytree(keep_study.KEPT / KEPT[0], workdir)
    run = next((workdir / "runs").iterdir())
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "weights").write_text("many")
    keep_study.copy_records(workdir, copy)
    assert not (copy / "runs" / run.name / "checkpoints").exists()
    assert (copy / "runs" / run.name / "summary.json").exists()
