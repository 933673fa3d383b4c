"""Sweeps in worker processes: real ones, which are killed, hang, fail, and are left alone by whoever started them."""

import contextlib
import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from research.config import Config, from_dict, replace, to_json
from research.errors import UserError
from research.sweeps import executors, jobs, plan, store, study, watching
from research.sweeps.executors import local
from research.sweeps.jobs import Job, Resources
from research.sweeps.plan import Planned
from research.sweeps.study import Outcome, Study
from research.training import record
from research.training.tracking import Tracking
from tests.sweeps.trouble import config, digests, gone, planned, start, statuses, wait_for_step, workers_of


@pytest.fixture
def base(tmp_path: Path) -> Config:
    return config(tmp_path)


def launched(runs: list[Planned], workdir: Path, said: list[str] | None = None, **resources: float) -> list[Outcome]:
    asked = Resources(**{"workers": 2, **resources})  # type: ignore[arg-type]
    chosen = Study("trouble", "smoke", "What goes wrong?", "python launch.py study trouble", tuple(runs))
    say = (lambda line: None) if said is None else said.append
    return study.launch(chosen, workdir, resources=asked, say=say)


def children() -> set[int]:
    """Processes that this one has started and that are still there, zombies too."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(file.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(file.parent.name))
    return found


def test_what_dies_hangs_or_fails_is_tried_again_or_said_and_the_rest_goes_on(base: Config, tmp_path: Path) -> None:
    for name in ("kill", "hang"):
        (tmp_path / name).touch()
    before = children()
    runs = [
        planned(base, "good", **{"optimizer.learning_rate": 0.1}),
        planned(base, "killed", **{"model.trouble": "kill"}),
        planned(base, "hung", **{"model.trouble": "hang"}),
        planned(base, "wild", **{"optimizer.learning_rate": 1e38}),
    ]
    said: list[str] = []
    outcomes = launched(runs, tmp_path / "work", said, stall=15)
    assert statuses(outcomes) == {
        **dict.fromkeys(("good", "killed", "hung"), "finished"),
        "wild": "failed",
    }
    reasons = {outcome.job.label: outcome.reason for outcome in outcomes}
    assert "the loss is" in reasons["wild/short/0"]
    assert "killed/short/0: its worker died (SIGKILL); trying again (1 of 2)" in said
    assert "hung/short/0: no step for 15 s; trying again (1 of 2)" in said
    listed = {row["run"]: row["status"] for row in watching.rows(tmp_path / "work")}
    assert listed == {outcome.job.label: outcome.status for outcome in outcomes}
    assert children() == before, "nothing is left running"


def test_a_run_that_always_dies_is_reported_with_the_last_lines_of_its_log(base: Config, tmp_path: Path) -> None:
    class Again(list):  # type: ignore[type-arg]
        """What is said; each death is prepared for the next try."""

        def append(self, line: str) -> None:
            super().append(line)
            if "trying again" in line:
                (tmp_path / "kill").touch()

    (tmp_path / "kill").touch()
    outcomes = launched([planned(base, "dies", **{"model.trouble": "kill"})], tmp_path / "work", Again(), retries=1)
    (outcome,) = outcomes
    assert (outcome.status, outcome.reason) == ("failed", "its worker died (SIGKILL), 2 times")
    summary = record.read_json(outcome.job.folder / record.SUMMARY)
    assert (summary["status"], summary["reason"]) == ("failed", outcome.reason)
    assert summary["log"].splitlines()[-1] == "in trouble: kill"
    assert launched([planned(base, "dies", **{"model.trouble": "kill"})], tmp_path / "work")[0].status == "finished"


def test_whatever_ends_the_sweep_nothing_is_left_running_and_it_goes_on(base: Config, tmp_path: Path) -> None:
    cfg = replace(base, **{"budget.log_every": "2 steps"})
    whole = start(tmp_path / "whole", cfg)
    out, errors = whole.communicate(timeout=200)
    assert "6 run, 0 failed" in out, errors
    work = tmp_path / "work"

    stopped = start(work, cfg, slow=0.1)
    wait_for_step(stopped, work, 6)
    pids = workers_of(work)
    assert len(set(pids)) == 2, "two workers, two runs"
    stopped.send_signal(signal.SIGTERM)
    out, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 3, errors
    assert "Traceback" not in errors
    gone(pids, within=1)
    saved = [json.loads(file.read_text()) for file in (work / "runs").glob("*/summary.json")]
    assert [summary["status"] for summary in saved] == ["preempted"] * 2
    assert max(summary["step"] for summary in saved) >= 6

    killed = start(work, cfg, slow=0.1)
    wait_for_step(killed, work, 12)
    pids = workers_of(work)
    killed.kill()
    killed.communicate()
    gone(pids, within=30)  # by themselves: what they were at is saved

    both = [start(work, cfg, slow=0.02), start(work, cfg, slow=0.02)]
    said = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    trained = Counter(
        line.split("  ")[0].partition("] ")[2] for out, _ in said for line in out.splitlines() if "] " in line
    )
    assert set(trained.values()) == {1}, f"two launches at once: each run is trained by one of them, not {trained}"
    assert digests(work) == digests(tmp_path / "whole")
    assert [r["status"] for r in watching.rows(work)] == ["finished"] * 6


def test_a_worker_that_is_told_to_stop_is_replaced_and_the_sweep_goes_on(base: Config, tmp_path: Path) -> None:
    cfg = replace(base, **{"budget.log_every": "2 steps"})
    work = tmp_path / "work"
    sweep = start(work, cfg, slow=0.1)
    wait_for_step(sweep, work, 6)
    os.kill(workers_of(work)[0], signal.SIGTERM)
    out, errors = sweep.communicate(timeout=200)
    assert sweep.returncode == 0, errors
    assert "Traceback" not in errors
    (again,) = [line for line in out.splitlines() if "trying again" in line]
    assert "it was told to stop (preempted at step" in again
    assert again.endswith("trying again (1 of 2)")
    assert "6 run, 0 failed" in out
    assert [row["status"] for row in watching.rows(work)] == ["finished"] * 6
    assert len(digests(work)) == 6


def test_a_worker_that_has_done_many_tasks_is_followed_by_another(
    base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, started = children(), []

    class Counted(local._Worker):
        def __init__(self, slot: local.Slot, log: Path) -> None:
            super().__init__(slot, log)
            started.append(self)

    monkeypatch.setattr(local, "MOST", 2)
    monkeypatch.setattr(local, "_Worker", Counted)
    outcomes = launched(
        [planned(base, f"arm{at}", **{"optimizer.learning_rate": 0.1 / (1 + at)}) for at in range(6)], tmp_path / "work"
    )
    assert [outcome.status for outcome in outcomes] == ["finished"] * 6
    assert sum(worker.given for worker in started) == 6
    assert max(worker.given for worker in started) == 2
    assert children() == before


def test_each_worker_has_its_own_part_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3, 5, 7, 9})
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert [slot.cores for slot in local.shares(Resources(workers=2))] == [(1, 3), (5, 7)]
    assert [slot.cores for slot in local.shares(Resources(workers=5, cpus=1))] == [(1,), (3,), (5,), (7,), (9,)]
    assert [slot.cores for slot in local.shares(Resources(workers=6))] == [(1,), (3,), (5,), (7,), (9,), (1,)]
    with pytest.raises(UserError, match="3 workers with 2 cores each; this machine has 5"):
        local.shares(Resources(workers=3, cpus=2))
    with pytest.raises(UserError, match="2 workers with 1 chips each; this machine has 0"):
        local.shares(Resources(workers=2, chips=1))

    monkeypatch.setattr(local, "_chips", lambda: [("gpu", number) for number in "0123"])
    seen = [dict(slot.environment) for slot in local.shares(Resources(workers=2))]
    assert seen == [{"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}]
    assert [dict(s.environment) for s in local.shares(Resources(workers=2, chips=0))] == [{"JAX_PLATFORMS": "cpu"}] * 2
    with pytest.raises(UserError, match="5 workers with 1 chips each; this machine has 4"):
        local.shares(Resources(workers=5))
    monkeypatch.setattr(local, "_chips", lambda: [("tpu", number) for number in "0123"])
    assert dict(local.shares(Resources(workers=2))[1].environment)["TPU_VISIBLE_DEVICES"] == "2,3"


@pytest.mark.parametrize(
    ("name", "resources", "words"),
    [
        ("lokal", {}, "nearest: local"),
        ("local", {"workers": 0}, "workers is 0"),
        ("local", {"retries": -1}, "retries is -1"),
        ("local", {"stall": 0}, "stall is 0"),
    ],
)
def test_wrong_words_are_refused(name: str, resources: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        executors.get(name, Resources(**resources))  # type: ignore[arg-type]


def test_jobs_come_back_from_json_as_they_were(base: Config, tmp_path: Path) -> None:
    runs = plan.grid(base, ["optimizer.learning_rate=0.1,0.01"], seeds=2)
    folders = [store.run_folder(tmp_path, str(number)) for number in range(4)]
    named = tuple(
        (str(number), run.config, folder) for number, (run, folder) in enumerate(zip(runs, folders, strict=True))
    )
    group = jobs.Group(store.group_folder(tmp_path, ["0", "1"]), named)
    for of_group in (None, group):
        told = Tracking(("wandb", "mlflow"), "arm/short/0", "study smoke")
        sent = [Job(run.label, str(n), run.config, folders[n], of_group, n, told) for n, run in enumerate(runs[:2])]
        assert jobs.decode(json.loads(json.dumps(jobs.encode(sent)))) == sent
    assert from_dict(json.loads(to_json(runs[0].config))) == runs[0].config


def test_one_impossible_run_is_refused_before_any_is_trained(base: Config, tmp_path: Path) -> None:
    large = planned(base, "large", **{"data.batch_size": 512})
    with pytest.raises(UserError, match=r"data\.batch_size is 512.*256"):
        launched([planned(base, "good"), large], tmp_path / "work")
    assert not (tmp_path / "work").exists()
