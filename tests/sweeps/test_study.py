"""The engine and the local executor, on real runs of a network small enough to compile at once."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from research.config import Config, replace
from research.errors import Preempted, UserError
from research.sweeps import executors, identity, store, study, watching
from research.sweeps.executors import local
from research.sweeps.jobs import Job, Outcome, Resources
from research.sweeps.plan import Planned
from research.sweeps.results import Result
from research.sweeps.study import Study
from research.training import loop, record

NETWORK = """
import flax.linen as nn
import jax.numpy as jnp

class Linear(nn.Module):
    num_classes: int
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))
"""


@pytest.fixture
def base(tmp_path: Path) -> Config:
    (tmp_path / "network.py").write_text(NETWORK)
    changes = {"model.name": f"{tmp_path / 'network.py'}:Linear", "budget.train": "3 steps", "budget.eval_every": "0"}
    return replace(Config(), **changes, **{"schedule.name": "constant", "data.train_examples": 256})


def planned(config: Config, arm: str, rate: float, seed: int = 0) -> Planned:
    return Planned(arm, "short", seed, replace(config, **{"optimizer.learning_rate": rate, "seed": seed}))


def made(*runs: Planned, name: str = "rates") -> Study:
    return Study(name, "smoke", "Which rate?", "python launch.py study rates", runs)


def listed(workdir: Path) -> dict[str, str]:
    return {row["run"]: row["status"] for row in watching.rows(workdir)}


def test_a_sweep_trains_each_run_once_and_a_failure_does_not_stop_it(base: Config, tmp_path: Path) -> None:
    # A rate of 1e38 overflows float32 at the first step; the loss of the next is not finite.
    runs = [planned(base, "good", 0.1), planned(base, "wild", 1e38), planned(base, "fine", 0.01)]
    said: list[str] = []
    outcomes = study.launch(made(*runs), tmp_path / "work", say=said.append)
    assert [(o.job.label, o.status) for o in outcomes] == [
        ("good/short/0", "finished"),
        ("wild/short/0", "failed"),
        ("fine/short/0", "finished"),
    ]
    assert "loss" in outcomes[1].reason
    for outcome, line in zip(outcomes, said, strict=False):
        assert f"{outcome.job.label}  {outcome.job.id}  {outcome.status}" in line
    assert len(said) == 4
    assert listed(tmp_path / "work") == {o.job.label: o.status for o in outcomes}

    again = study.launch(made(*runs), tmp_path / "work", say=said.append)
    assert [o.job.label for o in again] == ["wild/short/0"], "what is finished is not run again, what failed is"

    other = made(runs[0], planned(base, "good", 0.1, seed=1), name="seeds")
    assert [o.job.label for o in study.launch(other, tmp_path / "work", say=said.append)] == ["good/short/1"]
    studies = {s["name"]: [run["id"] for run in s["runs"]] for s in store.read_studies(tmp_path / "work")}
    assert studies["seeds"][0] == studies["rates"][0], "a run is shared by the studies that want it"
    assert len(list((tmp_path / "work/runs").iterdir())) == 4


def test_what_was_found_asks_for_more_runs_which_follow_at_once(base: Config, tmp_path: Path) -> None:
    """Rate 0.01 or 0.1, whichever had the lower loss, is run with two more seeds: in this launch or the next."""
    runs = [planned(base, "fast", 0.1), planned(base, "slow", 0.01), planned(base, "wild", 1e38)]
    asked: list[list[str]] = []

    def follow_up(found: Sequence[Result]) -> list[Planned]:
        asked.append([r.status for r in found])
        done = {r.arm: r.summary["eval/loss"] for r in found if r.status == "finished"}
        if not {"fast", "slow"} <= done.keys():
            return []
        rate = 0.1 if done["fast"] < done["slow"] else 0.01
        return [planned(base, "found", rate, seed) for seed in (0, 1)]

    said: list[str] = []
    outcomes = study.launch(made(*runs), tmp_path / "whole", follow_up=follow_up, say=said.append)
    # Seed 0 of what was found is a run that there is already, and the run that failed is not tried again at once.
    assert [o.job.label for o in outcomes] == ["fast/short/0", "slow/short/0", "wild/short/0", "found/short/1"]
    assert asked[0] == ["finished", "finished", "failed"]
    assert listed(tmp_path / "whole")["found/short/0"] == "finished"
    assert sum("found/short/0" in line and "already finished" in line for line in said) == 1
    assert sum("fast/short/0" in line for line in said) == 1, "what is finished is said once"

    first = study.launch(made(*runs), tmp_path / "parts", pattern="fast/*", follow_up=follow_up, say=said.append)
    then = study.launch(made(*runs), tmp_path / "parts", pattern="[sf]*", follow_up=follow_up, say=said.append)
    assert [o.job.label for o in [*first, *then]] == ["fast/short/0", "slow/short/0", "found/short/1"]
    assert listed(tmp_path / "parts")["wild/short/0"] == "waiting"


def test_a_filter_runs_a_part_and_the_record_lists_the_whole(base: Config, tmp_path: Path) -> None:
    runs = [planned(base, "good", 0.1), planned(base, "fine", 0.01)]
    outcomes = study.launch(made(*runs), tmp_path, pattern="fine/*", say=lambda line: None)
    assert [o.job.label for o in outcomes] == ["fine/short/0"]
    assert listed(tmp_path) == {"good/short/0": "waiting", "fine/short/0": "finished"}


def test_two_labels_of_the_same_run_train_it_once(base: Config, tmp_path: Path) -> None:
    outcomes = study.launch(made(planned(base, "a", 0.1), planned(base, "b", 0.1)), tmp_path, say=lambda line: None)
    assert len(outcomes) == 1
    assert listed(tmp_path) == {"a/short/0": "finished", "b/short/0": "finished"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"executor": "lokal"}, "nearest: local"),
        ({"resources": Resources(threads=0)}, "threads is 0"),
        ({"resources": Resources(threads=2)}, r"on 4 devices; expected 1, or parallelism\.devices 1"),
        ({"pattern": "x*"}, "good/short/0"),
    ],
)
def test_wrong_words_are_refused(base: Config, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        study.launch(made(planned(base, "good", 0.1)), tmp_path / "work", say=lambda line: None, **change)
    assert not (tmp_path / "work/runs").exists()


def test_one_impossible_run_is_refused_before_any_is_trained(base: Config, tmp_path: Path) -> None:
    impossible = Planned("large", "short", 0, replace(base, **{"data.batch_size": 512}))
    with pytest.raises(UserError, match="batch_size"):
        study.launch(made(planned(base, "good", 0.1), impossible), tmp_path / "work", say=lambda line: None)
    assert not (tmp_path / "work/runs").exists()


def test_a_signal_ends_the_sweep_and_the_same_command_continues(
    base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(config: Config, workdir: Any, **how: Any) -> dict[str, Any]:
        if config.optimizer.learning_rate == 0.1:
            return train(config, workdir, **how)
        raise Preempted("a signal came")

    train = loop.train
    runs = [planned(base, arm, rate) for arm, rate in (("a", 0.1), ("b", 0.2), ("c", 0.3))]
    monkeypatch.setattr(loop, "train", stopped)
    with pytest.raises(Preempted):
        study.launch(made(*runs), tmp_path / "work", say=lambda line: None)
    assert list(listed(tmp_path / "work").values()) == ["finished", "waiting", "waiting"]
    monkeypatch.setattr(loop, "train", train)
    outcomes = study.launch(made(*runs), tmp_path / "work", say=lambda line: None)
    assert [o.job.label for o in outcomes] == ["b/short/0", "c/short/0"]


def test_a_bug_in_one_run_is_recorded_and_the_run_can_be_tried_again(
    base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(config: Config, workdir: Any, **how: Any) -> dict[str, Any]:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train", broken)
        (outcome,) = study.launch(made(planned(base, "a", 0.1)), tmp_path / "work", say=lambda line: None)
    assert (outcome.status, outcome.reason) == ("failed", "OSError: no space left on device")
    assert "Traceback" in capsys.readouterr().err
    (row,) = watching.rows(tmp_path / "work")
    assert (row["status"], row["reason"]) == ("failed", "OSError: no space left on device")
    (outcome,) = study.launch(made(planned(base, "a", 0.1)), tmp_path / "work", say=lambda line: None)
    assert outcome.status == "finished"


def test_results_of_accepted_code_stand_in_and_are_marked(base: Config, tmp_path: Path) -> None:
    run, workdir = planned(base, "a", 0.1), tmp_path / "work"
    study.launch(made(run), workdir, say=lambda line: None)
    wanted = identity.run_identity(run.config)
    older = identity.identity(wanted.config_digest, "0ld" * 20, wanted.data_fingerprint)
    folder = (workdir / "runs" / wanted.id).rename(workdir / "runs" / older.id)
    environment = record.read_json(folder / "environment.json") | {"code_digest": older.code_digest}
    record.write_json(folder / "environment.json", environment)

    assert study.launch(made(run), workdir, accept_code=["0ld0ld0ld"], say=lambda line: None) == []
    (listed_run,) = store.read_studies(workdir)[0]["runs"]
    assert (listed_run["id"], listed_run["accepted_code"]) == (older.id, older.code_digest)
    assert len(study.launch(made(run), workdir, say=lambda line: None)) == 1, "without the word it is trained anew"


def test_executors_are_the_files_that_can_execute() -> None:
    assert executors.names()["local"] is local.execute


def test_an_executor_may_end_its_jobs_in_any_order(
    base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backwards(jobs: Sequence[Job], resources: Resources, **more: Any) -> Iterator[Outcome]:
        yield from (Outcome(job, "failed", reason="not tried") for job in reversed(jobs))

    monkeypatch.setattr(local, "execute", backwards)
    runs = [planned(base, "a", 0.1), planned(base, "b", 0.2)]
    outcomes = study.launch(made(*runs), tmp_path, say=lambda line: None)
    assert [o.job.label for o in outcomes] == ["b/short/0", "a/short/0"]
