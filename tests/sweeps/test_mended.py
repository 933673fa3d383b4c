"""Sweeps with damaged records: the launch that finds them trains those runs again, and no other."""

import errno
import time
from pathlib import Path

import pytest

from research.config import Config
from research.errors import UserError
from research.sweeps import results, store, study
from research.training import lease, loop, record
from tests.sweeps.test_study import base, made, planned  # noqa: F401
from tests.training.test_lease import elsewhere

RATES = {"a": 0.1, "b": 0.05, "c": 0.01, "d": 0.2}


def launched(base: Config, workdir: Path, **more: object) -> list[str]:  # noqa: F811
    runs = [planned(base, arm, rate) for arm, rate in RATES.items()]
    outcomes = study.launch(made(*runs), workdir, say=lambda line: None, **more)  # type: ignore[arg-type]
    assert {outcome.status for outcome in outcomes} <= {"finished"}
    return [outcome.job.label[0] for outcome in outcomes]


def folders(workdir: Path) -> dict[str, Path]:
    (entry,) = store.read_studies(workdir)
    return {run["arm"]: workdir / "runs" / run["id"] for run in entry["runs"]}


def found(workdir: Path) -> dict[str, tuple[str, list[float]]]:
    """Digest and losses of every run."""
    (read,) = results.read(workdir)
    return {
        r.arm: (r.summary["params_digest"], [row["train/loss"] for row in r.metrics if "train/loss" in row])
        for r in read.results
    }


def flip(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_what_is_damaged_is_trained_again_and_nothing_else(
    base: Config,  # noqa: F811
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = tmp_path / "work"
    assert launched(base, work) == ["a", "b", "c", "d"]
    before, runs = found(work), folders(work)
    flip(runs["a"] / "summary.json", '"step": 3', '"step": 7')
    flip(runs["b"] / "environment.json", '"platform": "cpu"', '"platform": "gpu"')
    flip(runs["c"] / "config.json", '"seed": 0', '"seed": 8')
    with pytest.raises(UserError, match=r"json is damaged: .*; launch its run again, which mends it"):
        results.read(work)
    assert launched(base, work) == ["a", "b", "c"]
    assert found(work) == before
    for arm, name in (("a", "summary"), ("b", "environment"), ("c", "config")):
        (said,) = [line for line in caplog.messages if str(runs[arm] / f"{name}.json") in line]
        assert said.endswith("; its run is trained again from where all is sound")


def test_a_run_that_was_not_finished_is_mended_too(base: Config, tmp_path: Path) -> None:  # noqa: F811
    work = tmp_path / "work"
    launched(base, work)
    before, runs = found(work), folders(work)
    for arm in "abc":
        (runs[arm] / "summary.json").unlink()
    flip(runs["a"] / "config.json", '"seed": 0', '"seed": 8')
    flip(runs["b"] / "config.json", '"seed": 0', '"seed": x')
    flip(runs["c"] / "environment.json", '"platform": "cpu"', '"platform": cpu')
    assert launched(base, work) == ["a", "b", "c"]
    assert found(work) == before


def test_a_damaged_list_of_studies_is_refused_with_what_to_do(base: Config, tmp_path: Path) -> None:  # noqa: F811
    work = tmp_path / "work"
    launched(base, work)
    before = found(work)
    flip(work / "study.json", '"seed": 0', '"seed": 1')
    with pytest.raises(UserError, match=r"study\.json is damaged: .*; remove it and launch its studies again"):
        launched(base, work)
    (work / "study.json").unlink()
    assert launched(base, work) == []
    assert found(work) == before


def test_a_study_that_follows_what_it_found_is_mended_before_it_looks(base: Config, tmp_path: Path) -> None:  # noqa: F811
    work = tmp_path / "work"
    launched(base, work)
    before, runs = found(work), folders(work)
    flip(runs["d"] / "metrics.jsonl", '"step": 3', '"step": 2')
    assert launched(base, work, follow_up=lambda read: []) == ["d"]
    assert found(work) == before


def test_a_damaged_run_of_older_code_is_not_accepted(
    base: Config,  # noqa: F811
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from research.sweeps import identity

    run, work = planned(base, "a", 0.1), tmp_path / "work"
    study.launch(made(run), work, say=lambda line: None)
    wanted = identity.run_identity(run.config)
    older = identity.identity(wanted.config_digest, "0ld" * 20, wanted.data_fingerprint)
    folder = (work / "runs" / wanted.id).rename(work / "runs" / older.id)
    environment = record.read_json(folder / "environment.json") | {"code_digest": older.code_digest}
    record.write_json(folder / "environment.json", environment)
    flip(folder / "summary.json", '"step": 3', '"step": 7')
    (outcome,) = study.launch(made(run), work, accept_code=["0ld0ld0ld"], say=lambda line: None)
    assert (outcome.status, outcome.job.id) == ("finished", wanted.id)


def test_what_a_group_leaves_behind_whose_process_was_killed_at_its_end_is_removed(
    base: Config,  # noqa: F811
    tmp_path: Path,
) -> None:
    work = tmp_path / "work"
    launched(base, work, population="2")
    (entry,) = store.read_studies(work)
    left = store.group_folder(work, entry["population"]["groups"][0])
    (left / "checkpoints").mkdir(parents=True)
    assert launched(base, work, population="2") == []
    assert not left.exists()


@pytest.mark.parametrize("population", ["1", "2"])
def test_what_died_on_another_machine_is_waited_for_once(
    population: str,
    base: Config,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    monkeypatch.setattr(study, "LOOKS", 0.1)
    launched(base, tmp_path / "whole", population=population)
    (entry,) = store.read_studies(tmp_path / "whole")
    work = tmp_path / "work"
    elsewhere(work / "runs" / entry["runs"][0]["id"])
    for ids in entry["population"]["groups"][:1]:
        elsewhere(store.group_folder(work, ids))
    began = time.monotonic()
    assert sorted(launched(base, work, population=population)) == ["a", "b", "c", "d"]
    assert found(work) == found(tmp_path / "whole")
    assert time.monotonic() - began > 1.0


def test_a_disk_that_takes_nothing_is_said_in_one_line(
    base: Config,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*args: object, **more: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train", broken)
        (outcome,) = study.launch(made(planned(base, "a", 0.1)), tmp_path / "work", say=lambda line: None)
    assert outcome.status == "failed"
    assert outcome.reason.startswith("read-only file system: ")
    assert outcome.reason.endswith("; the same command continues")
    assert "Traceback" not in capsys.readouterr().err
