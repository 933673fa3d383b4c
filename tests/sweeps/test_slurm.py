"""The executor slurm on a real Slurm: arrays, deaths, time limits, and a launch that is stopped."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from research.config import Config, replace, to_json
from research.errors import UserError
from research.sweeps import executors, study, watching
from research.sweeps.executors import slurm
from research.sweeps.jobs import Resources
from research.sweeps.study import Study
from research.training import record
from tests.sweeps.trouble import ROOT, config, digests, planned, start, statuses, wait_for_step, workers_of

ON_SLURM = ("--executor", "slurm", "--cpus-per-run", "1")


@pytest.fixture
def base(tmp_path: Path) -> Config:
    return config(tmp_path)


def queued() -> list[str]:
    """Jobs that Slurm has not ended."""
    return subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout.splitlines()


def test_without_slurm_it_is_refused_in_one_line(base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Study("trouble", "smoke", "?", "python launch.py study trouble", (planned(base, "good"),))
    find, there = importlib.util.find_spec, {"submitit": None}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: there.get(name, find(name, *more)))
    with pytest.raises(UserError, match="needs submitit; install the extra `slurm`"):
        study.launch(chosen, tmp_path / "work", executor="slurm")
    there["submitit"] = find("json")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs the program sbatch"):
        study.launch(chosen, tmp_path / "work", executor="slurm")
    assert not (tmp_path / "work").exists()
    assert executors.names()["slurm"] is slurm.execute


@pytest.mark.slurm
def test_an_array_trains_all_and_what_dies_or_fails_is_tried_again_or_said(base: Config, tmp_path: Path) -> None:
    (tmp_path / "kill").touch()
    runs = (
        planned(base, "good", **{"optimizer.learning_rate": 0.1}),
        planned(base, "killed", **{"model.trouble": "kill"}),
        planned(base, "wild", **{"optimizer.learning_rate": 1e38}),
    )
    said: list[str] = []
    chosen = Study("trouble", "smoke", "What goes wrong?", "python launch.py study trouble", runs)
    asked = Resources(workers=2, cpus=1, minutes=10)
    outcomes = study.launch(chosen, tmp_path / "work", executor="slurm", resources=asked, say=said.append)
    assert statuses(outcomes) == {"good": "finished", "killed": "finished", "wild": "failed"}
    assert "killed/short/0: its Slurm job ended without a word; trying again (1 of 2)" in said
    assert [row["status"] for row in watching.rows(tmp_path / "work")] == ["finished", "finished", "failed"]
    assert queued() == []


@pytest.mark.slurm
def test_what_is_cancelled_saves_its_state_leaves_the_queue_empty_and_goes_on(base: Config, tmp_path: Path) -> None:
    cfg = replace(base, **{"budget.log_every": "2 steps"})
    out, errors = start(tmp_path / "whole", cfg, *ON_SLURM).communicate(timeout=300)
    assert "6 run, 0 failed" in out, errors
    work = tmp_path / "work"
    stopped = start(work, cfg, *ON_SLURM, slow=0.3)
    wait_for_step(stopped, work, 6)
    assert len(set(workers_of(work))) == 2, "two at a time"
    stopped.send_signal(signal.SIGTERM)
    out, errors = stopped.communicate(timeout=120)
    assert stopped.returncode == 3, errors
    assert "Traceback" not in errors
    assert queued() == []
    saved = [json.loads(file.read_text()) for file in (work / "runs").glob("*/summary.json")]
    assert [summary["status"] for summary in saved] == ["preempted"] * 2
    out, errors = start(work, cfg, *ON_SLURM).communicate(timeout=300)
    assert "6 run, 0 failed" in out, errors
    assert digests(work) == digests(tmp_path / "whole")


@pytest.mark.slurm
def test_at_its_time_limit_a_run_goes_back_into_the_queue_and_on_from_there(base: Config, tmp_path: Path) -> None:
    cfg = replace(base, **{"budget.train": "60 steps", "budget.log_every": "2 steps"})
    words = (*ON_SLURM, "--filter", "*0.1/*/0")
    out, errors = start(tmp_path / "whole", cfg, *words).communicate(timeout=300)
    assert "1 run, 0 failed" in out, errors
    work = tmp_path / "work"
    # A minute of steps, in jobs of one minute that are told to stop a third of that before, or earlier.
    limited = start(work, cfg, *words, "--time-limit", "1", slow=1.0)
    out, errors = limited.communicate(timeout=900)
    assert "1 run, 0 failed" in out, errors
    assert digests(work) == digests(tmp_path / "whole")
    (log,) = (work / "logs" / "slurm").glob("*.err")
    assert 1 <= log.read_text().count("back into the queue") <= 5
    (folder,) = (work / "runs").iterdir()
    assert [row["step"] for row in record.read_metrics(folder / "metrics.jsonl")][:30] == list(range(2, 61, 2))


@pytest.mark.slurm
def test_a_killed_launch_and_one_after_it_share_what_the_first_had_submitted(base: Config, tmp_path: Path) -> None:
    """Jobs in the queue outlive whoever submitted them: each run is still trained once."""
    work = tmp_path / "work"
    killed = start(work, replace(base, **{"budget.log_every": "2 steps"}), *ON_SLURM, slow=0.2)
    wait_for_step(killed, work, 4)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    out, errors = start(work, replace(base, **{"budget.log_every": "2 steps"}), *ON_SLURM).communicate(timeout=400)
    assert killed.returncode != 0
    assert " 0 failed" in out, errors
    assert [row["status"] for row in watching.rows(work)] == ["finished"] * 6
    deadline = time.monotonic() + 120
    while queued():
        assert time.monotonic() < deadline
        time.sleep(1)
    tokens = [int(file.stem) for file in (work / "runs").glob("*/.lease/*.json")]
    assert tokens == [1] * 6, "each run was held once"


@pytest.mark.slurm
def test_what_srun_starts_together_trains_one_run(base: Config, tmp_path: Path) -> None:
    file, work = tmp_path / "together.json", tmp_path / "work"
    file.write_text(to_json(replace(base, **{"parallelism.devices": None})))
    words = [sys.executable, str(ROOT / "launch.py"), "train", str(file), "--workdir", str(work)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        ["srun", "--ntasks", "2", "--overcommit", *words], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert record.read_json(work / record.SUMMARY)["status"] == "finished"
    assert record.read_json(work / record.ENVIRONMENT)["processes"] == 2
    assert queued() == []
