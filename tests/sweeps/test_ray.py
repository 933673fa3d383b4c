"""The executor ray on a real cluster of two nodes: workers and nodes that die, and a launch that is stopped."""

import importlib.util
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from research.config import Config, replace
from research.errors import UserError
from research.sweeps import executors, study, together, watching
from research.sweeps.executors import ray as of_ray
from research.sweeps.jobs import Resources
from research.sweeps.study import Study
from research.training import record
from tests.sweeps.trouble import config, digests, planned, start, statuses, wait_for_step, workers_of

ON_RAY = ("--executor", "ray", "--cpus-per-run", "1")


@pytest.fixture
def base(tmp_path: Path) -> Config:
    return config(tmp_path)


def made(*runs: Any) -> Study:
    return Study("trouble", "smoke", "What goes wrong?", "python launch.py study trouble", runs)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, on loopback."""
    from ray import cluster_utils

    found = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()


def test_without_ray_it_is_refused_in_one_line(base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    with pytest.raises(UserError, match="needs Ray; install the extra `ray`"):
        study.launch(made(planned(base, "good")), tmp_path / "work", executor="ray")
    assert not (tmp_path / "work").exists()
    assert executors.names()["ray"] is of_ray.execute


@pytest.mark.ray
def test_workers_and_nodes_die_and_the_rest_goes_on(base: Config, tmp_path: Path, cluster: Any) -> None:
    (tmp_path / "kill").touch()
    slow = {"budget.train": "2000 steps", "checkpointing.every": "50 steps", "budget.log_every": "10 steps"}
    runs = [
        planned(base, "killed", **{"model.trouble": "kill"}),
        planned(base, "wild", **{"optimizer.learning_rate": 1e38}),
        *(planned(base, f"long{n}", **{"optimizer.learning_rate": 0.001 * n, **slow}) for n in (1, 2, 3)),
    ]
    said: list[str] = []

    def kill_a_node() -> None:
        """The second node, once both are at something long."""
        while not any("killed" in line and "finished" in line for line in said):
            time.sleep(0.1)
        time.sleep(3)
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)

    killer = threading.Thread(target=kill_a_node, daemon=True)
    killer.start()
    asked = Resources(cpus=1, address=cluster.address, retries=3)
    outcomes = study.launch(made(*runs), tmp_path / "work", executor="ray", resources=asked, say=said.append)
    killer.join(timeout=60)
    expected = dict.fromkeys(("killed", "long1", "long2", "long3"), "finished") | {"wild": "failed"}
    assert statuses(outcomes) == expected, said
    assert sum("its Ray worker died" in line and "trying again" in line for line in said) >= 1, said
    assert {row["run"][:4]: row["status"] for row in watching.rows(tmp_path / "work")}["wild"] == "failed"


@pytest.mark.ray
def test_a_run_that_always_dies_shows_its_last_lines(base: Config, tmp_path: Path) -> None:
    (tmp_path / "kill").touch()
    run = planned(base, "dies", **{"model.trouble": "kill"})
    asked = Resources(workers=1, retries=0)
    (outcome,) = study.launch(made(run), tmp_path / "work", executor="ray", resources=asked, say=lambda line: None)
    assert (outcome.status, outcome.reason) == ("failed", "its Ray worker died (WorkerCrashedError)")
    assert "in trouble: kill" in record.read_json(outcome.job.folder / record.SUMMARY)["log"]


@pytest.mark.ray
def test_what_is_stopped_saves_its_state_and_goes_on(base: Config, tmp_path: Path) -> None:
    cfg = replace(base, **{"budget.log_every": "2 steps"})
    out, errors = start(tmp_path / "whole", cfg, *ON_RAY).communicate(timeout=300)
    assert "6 run, 0 failed" in out, errors
    work = tmp_path / "work"
    stopped = start(work, cfg, *ON_RAY, slow=0.3)
    wait_for_step(stopped, work, 6)
    pids = workers_of(work)
    stopped.send_signal(signal.SIGTERM)
    out, errors = stopped.communicate(timeout=120)
    assert stopped.returncode == 3, errors
    assert "Traceback" not in errors
    saved = [json.loads(file.read_text()) for file in (work / "runs").glob("*/summary.json")]
    assert {summary["status"] for summary in saved} == {"preempted"}
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.1)
    out, errors = start(work, cfg, *ON_RAY).communicate(timeout=300)
    assert "6 run, 0 failed" in out, errors
    assert digests(work) == digests(tmp_path / "whole")


@pytest.mark.ray
def test_one_run_on_two_nodes_outlives_a_process(
    base: Config, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(together, "PLACING", 5.0)

    more = {"model.trouble": "kill", "budget.log_every": "2 steps", "parallelism.devices": None}
    cfg = replace(base, **more, **{"parallelism.sharding": "fsdp"})
    whole = together.train(cfg, tmp_path / "whole", processes=2, address=cluster.address)
    assert whole["status"] == "finished"
    (tmp_path / "kill").touch()  # the first process that trains finds it, and dies
    again = together.train(cfg, tmp_path / "again", processes=2, address=cluster.address)
    assert not (tmp_path / "kill").exists()
    assert again["params_digest"] == whole["params_digest"]
    assert record.read_json(tmp_path / "again" / record.ENVIRONMENT)["processes"] == 2
    assert not ray.is_initialized()
    with pytest.raises(UserError, match=r"3 processes need \{'CPU': 1.0\} each"):
        together.train(cfg, tmp_path / "more", processes=3, address=cluster.address)
