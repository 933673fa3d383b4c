"""Who follows a run besides its folder: what they are told, and that nothing they do is the run's business."""

import logging
import threading
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import launch
from research.config import Config, replace
from research.errors import Preempted, RunFailed, UserError, unknown
from research.sweeps.identity import run_identity
from research.training import loop, population, record, trackers, tracking, train
from research.training.population import Member
from research.training.trackers import Run
from research.training.tracking import Tracking
from tests.sweeps.trouble import config

SECRET = "0123456789abcdefsecret"


class Notebook:
    """A tracker that keeps what it is told, by the run's id, and fails or hangs where it is told to."""

    def __init__(self) -> None:
        self.told: dict[str, list[Any]] = {}
        self.fails_at = ""
        self.gate = threading.Event()
        self.gate.set()

    def begin(self, run: Run) -> Any:
        self._may("begin")
        self.told.setdefault(run.id, []).append(run)
        return types.SimpleNamespace(
            write=lambda step, numbers: self._keep(run, "write", step, dict(numbers)),
            end=lambda status, summary: self._keep(run, "end", status, dict(summary)),
        )

    def _keep(self, run: Run, call: str, *what: Any) -> None:
        self._may(call)
        self.told[run.id].append(what)

    def _may(self, call: str) -> None:
        assert self.gate.wait(60)
        if call == self.fails_at:
            raise ConnectionError(f"no way to https://me:{SECRET}@server/x with {SECRET}")


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """A tracker called notebook, with a thread of its own for this test."""
    made = Notebook()
    known = {**trackers.modules(), "notebook": types.SimpleNamespace(begin=made.begin)}
    monkeypatch.setattr(trackers, "modules", lambda: known)
    monkeypatch.setattr(tracking, "_outboxes", {})
    monkeypatch.setattr(tracking, "_said", set())
    return made


@pytest.fixture
def base(tmp_path: Path) -> Config:
    return config(tmp_path)


class StopAt(threading.Event):
    """Set from the so-many-th look on: a run looks once in each of its steps."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def steps(told: list[Any]) -> list[int]:
    return [what[0] for what in told if isinstance(what, tuple) and isinstance(what[0], int)]


def endings(told: list[Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [what for what in told if isinstance(what, tuple) and isinstance(what[0], str)]


def test_all_records_the_config_and_the_summary_are_told_in_order(
    base: Config, tmp_path: Path, notebook: Notebook
) -> None:
    summary = train(base, tmp_path / "run", display=False, track=("notebook", "notebook"))
    id_ = run_identity(base).id
    run, *told = notebook.told[id_]
    assert (run.id, run.name, run.group, run.start) == (id_, "run", "", 0)
    assert run.config["data"]["batch_size"] == 64
    rows = record.read_metrics(tmp_path / "run" / record.METRICS)
    written = [{key: value for key, value in row.items() if isinstance(value, int | float)} for row in rows]
    assert [
        {"step": step, "wall_time": row["wall_time"], **numbers}
        for (step, numbers), row in zip(told[:-1], rows, strict=True)
    ] == written
    status, last = told[-1]
    assert status == "finished"
    assert last == {key: value for key, value in summary.items() if isinstance(value, int | float | str)}
    assert {"eval/top1", "params_digest", "train_seconds"} <= last.keys()


def test_a_run_that_stops_goes_on_under_its_id(base: Config, tmp_path: Path, notebook: Notebook) -> None:
    followed = Tracking(("notebook",), "plain/short/0", "study smoke")
    with pytest.raises(Preempted):
        loop.train(base, tmp_path / "run", display=False, asked=StopAt(7), tracking=followed)
    train(base, tmp_path / "run", display=False, track=("notebook",))
    (told,) = notebook.told.values()
    first, second = (what for what in told if isinstance(what, Run))
    assert (first.name, first.group, first.start, second.start) == ("plain/short/0", "study smoke", 0, 8)
    assert [status for status, _ in endings(told)] == ["preempted", "finished"]


def test_a_run_that_fails_or_breaks_says_so(
    base: Config, tmp_path: Path, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = replace(base, **{"optimizer.learning_rate": 1e38})
    with pytest.raises(RunFailed):
        train(wild, tmp_path / "wild", display=False, track=("notebook",))
    monkeypatch.setattr(loop._Run, "_loop", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(base, tmp_path / "broken", display=False, track=("notebook",))
    (wild_status, why), (broken_status, nothing) = (endings(told)[-1] for told in notebook.told.values())
    assert (wild_status, broken_status, nothing) == ("failed", "failed", {})
    assert "the loss is" in why["reason"]


def test_each_member_of_a_population_is_told_of_by_itself(base: Config, tmp_path: Path, notebook: Notebook) -> None:
    cfgs = [base, replace(base, seed=1), replace(base, **{"optimizer.learning_rate": 1e38}), replace(base, seed=3)]
    members = [
        Member(str(n), cfg, tmp_path / str(n), n < 3, Tracking(("notebook",), f"run{n}", "group"))  # type: ignore[arg-type]
        for n, cfg in enumerate(cfgs)
    ]
    population.train(members, tmp_path / "group", display=False)
    tracking.drain()
    runs = [told[0].name for told in notebook.told.values()]
    assert sorted(runs) == ["run0", "run1", "run2"]  # the last has been recorded before
    ended = {told[0].name: endings(told)[-1][0] for told in notebook.told.values()}
    assert ended == {"run0": "finished", "run1": "finished", "run2": "failed"}


@pytest.mark.parametrize("call", ["begin", "write", "end"])
def test_a_tracker_that_fails_is_left_out_with_one_warning_without_its_secrets(
    base: Config,
    tmp_path: Path,
    notebook: Notebook,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    monkeypatch.setenv("NOTEBOOK_API_KEY", SECRET)
    notebook.fails_at = call
    with caplog.at_level(logging.WARNING, "research"):
        for name in ("one", "two"):
            assert train(base, tmp_path / name, display=False, track=("notebook",))["status"] == "finished"
    (line,) = [entry.getMessage() for entry in caplog.records if entry.name == "research"]
    assert line == "notebook is left out of one: ConnectionError: no way to https://***@server/x with ***"
    assert list((tmp_path / "two" / "tensorboard").glob("events.*"))


def test_a_tracker_that_hangs_holds_nobody_for_long(
    base: Config,
    tmp_path: Path,
    notebook: Notebook,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.3)
    notebook.gate.clear()
    with caplog.at_level(logging.WARNING, "research"):
        for name in ("one", "two"):
            train(base, tmp_path / name, display=False, track=("notebook",))
    said = [entry.getMessage() for entry in caplog.records if entry.name == "research"]
    assert said[-1] == "notebook is left out from here on: it has not taken what was left within 0 s"
    assert len(said) == 2
    notebook.gate.set()


def test_one_that_takes_too_little_does_not_fill_the_memory(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "MOST", 5)
    notebook.gate.clear()
    followed = tracking.Followed(("notebook",), Run("id", "run", "", tmp_path, {}))  # type: ignore[arg-type]
    for step in range(20):
        followed.write({"step": step, "loss": 0.1})
    followed.end("finished", {})
    assert "notebook is left out from here on: it has not taken 5 records" in caplog.text
    notebook.gate.set()


def test_wrong_words_are_refused_before_anything_happens(
    base: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for verb in (["train", "digits"], ["sweep", "digits", "--grid", "seed=0,1"], ["study", "residual_vs_plain"]):
        assert launch.main([*verb, "--track", "wandbb", "--workdir", str(tmp_path / "work")]) == 2
        assert "unknown tracker 'wandbb'; nearest: wandb" in capsys.readouterr().err
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    for name in ("wandb", "mlflow"):
        with pytest.raises(UserError, match=f"the tracker {name} needs {name}; install the extra `{name}`"):
            train(base, tmp_path / "work", track=(name,))
    assert not (tmp_path / "work").exists()
    assert str(unknown("tracker", "", trackers.modules())).startswith("unknown tracker")


def test_what_looks_like_a_secret_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "token-value")
    monkeypatch.setenv("MY_PASSWORD", "no")  # too short to be one: half of every text would go
    monkeypatch.setenv("LANGUAGE_OF_MINE", "token")
    text = tracking.without_secrets("a token-value, no; http://u:p@host/ and s3://bucket/x, https://key@host")
    assert text == "a ***, no; http://***@host/ and s3://bucket/x, https://***@host"
