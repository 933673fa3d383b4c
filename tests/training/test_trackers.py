"""Weights & Biases and MLflow themselves, without a network: what they have of runs that stop, break and go on."""

import json
import logging
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from research.config import Config, replace, to_json
from research.errors import Preempted, RunFailed
from research.sweeps.identity import run_identity
from research.training import loop, record, tracking, train
from research.training.journal import Journal
from research.training.tracking import Tracking
from tests.sweeps.trouble import config
from tests.training.test_tracking import StopAt

pytestmark = pytest.mark.trackers
ROOT = Path(__file__).resolve().parents[2]
KEY = "0123456789abcdef" * 2 + "01234567"
Seen = dict[str, Any]


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both may write, and a key that neither may."""
    for name, value in places(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tracking, "_outboxes", {})
    monkeypatch.setattr(tracking, "_said", set())


def places(folder: Path) -> dict[str, str]:
    return {
        "WANDB_MODE": "offline",
        "WANDB_API_KEY": KEY,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_TRACKING_TOKEN": KEY,
        "HOME": str(folder / "home"),
    }


def in_wandb(folder: Path, id_: str) -> list[Seen]:
    """What W&B has of a run, from each time that it was at it: config, history, status and code at the end."""
    found = []
    for file in sorted(folder.rglob(f"run-{id_}.wandb")):
        if file.parent.name == "latest-run":
            continue
        seen: Seen = {"history": {}, "summary": {}, "preempted": False}
        for entry in _records(file.read_bytes()):
            kind = entry.WhichOneof("record_type")
            if kind == "run":
                seen |= {"name": entry.run.display_name, "group": entry.run.run_group, "resumed": entry.run.resumed}
                seen["resume"] = entry.run.resume
                seen["config"] = {one.key: json.loads(one.value_json) for one in entry.run.config.update}
            elif kind == "history":
                for item in entry.history.item:
                    key = item.key or "/".join(item.nested_key)
                    seen["history"].setdefault(key, []).append((entry.history.step.num, json.loads(item.value_json)))
            elif kind == "summary":
                seen["summary"] |= {one.key: json.loads(one.value_json) for one in entry.summary.update if one.key}
            elif kind == "preempting":
                seen["preempted"] = True
            elif kind == "exit":
                seen["code"] = entry.exit.exit_code
        found.append(seen)
    return found


def _records(data: bytes) -> Iterator[Any]:
    """The records of a file of W&B's: LevelDB's log, in blocks of 32 KiB, after 7 bytes of its own."""
    from wandb.proto import wandb_internal_pb2

    at, whole = 7, b""
    while at < len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def in_mlflow(folder: Path, id_: str) -> list[Seen]:
    """What MLflow has of a run, of which there may be one only."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = []
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id], f"tags.`convscale.run` = '{id_}'"):
            history = {
                key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            }
            seen = {"name": run.info.run_name, "group": experiment.name, "status": run.info.status}
            found.append({**seen, "history": history, "config": run.data.params, "tags": run.data.tags})
    return found


def losses(folder: Path) -> list[tuple[int, float]]:
    rows = record.read_metrics(folder / record.METRICS)
    return [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]


def holding(folder: Path) -> list[Path]:
    """Files that have the key in them."""
    return [file for file in folder.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]


@pytest.fixture
def base(tmp_path: Path) -> Config:
    return replace(config(tmp_path), **{"budget.log_every": "2 steps", "budget.eval_every": "10 steps"})


BOTH = ("wandb", "mlflow")


def test_a_run_that_is_preempted_goes_on_as_the_same(base: Config, tmp_path: Path) -> None:
    followed = Tracking(BOTH, "plain/short/0", "study smoke")
    folder, id_ = tmp_path / "run", run_identity(base).id
    with pytest.raises(Preempted):
        loop.train(base, folder, display=False, asked=StopAt(7), tracking=followed)
    tracking.drain()
    (seen,) = in_mlflow(tmp_path, id_)
    assert (seen["status"], seen["tags"]["status"]) == ("KILLED", "preempted")
    summary = loop.train(base, folder, display=False, tracking=followed)
    tracking.drain()

    (seen,) = in_mlflow(tmp_path, id_)
    assert (seen["name"], seen["group"], seen["status"]) == ("plain/short/0", "study smoke", "FINISHED")
    assert seen["history"]["train/loss"] == losses(folder)
    assert seen["history"]["eval/top1"][-1] == (20, summary["eval/top1"])
    assert seen["history"]["summary/step"] == [(8, 8.0), (20, 20.0)]
    assert seen["tags"]["params_digest"] == summary["params_digest"]
    assert seen["config"]["data.batch_size"] == "64"

    first, second = in_wandb(folder, id_)
    assert (first["name"], first["group"], first["preempted"], first["code"]) == (
        "plain/short/0",
        "study smoke",
        True,
        1,
    )
    assert (second["resume"], second["preempted"], second["code"]) == (True, False, 0)
    assert first["history"]["train/loss"] + second["history"]["train/loss"] == losses(folder)
    assert second["summary"]["eval/top1"] == summary["eval/top1"]
    assert (first["summary"]["status"], second["summary"]["status"]) == ("preempted", "finished")
    assert second["config"]["data"]["batch_size"] == 64
    assert holding(tmp_path) == []


def test_what_a_dead_run_had_sent_beyond_its_checkpoint_is_there_once(
    base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(self: Journal, at: int, measures: Any) -> None:
        if at == 14:
            raise SystemExit
        checked(self, at, measures)

    checked, folder, id_ = Journal.check, tmp_path / "run", run_identity(base).id
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "check", check)
        with pytest.raises(SystemExit):
            train(base, folder, display=False, track=BOTH)
    (seen,) = in_mlflow(tmp_path, id_)
    assert (seen["status"], seen["history"]["train/loss"][-1][0]) == ("FAILED", 12)
    train(base, folder, display=False, track=BOTH)
    (seen,) = in_mlflow(tmp_path, id_)
    assert (seen["status"], seen["history"]["train/loss"]) == ("FINISHED", losses(folder))
    first, second = in_wandb(folder, id_)
    assert (first["code"], second["code"]) == (1, 0)
    assert [step for step, _ in second["history"]["train/loss"]] == [12, 14, 16, 18, 20]  # after the checkpoint of 10


def test_a_run_that_begins_anew_takes_the_place_of_the_first(base: Config, tmp_path: Path) -> None:
    wild = replace(base, **{"optimizer.learning_rate": 1e38})
    id_ = run_identity(wild).id
    for name in ("one", "two"):
        with pytest.raises(RunFailed):
            train(wild, tmp_path / name, display=False, track=BOTH)
    (seen,) = in_mlflow(tmp_path, id_)
    assert (seen["name"], seen["group"], seen["status"]) == ("two", "convscale", "FAILED")
    assert "the loss is" in seen["tags"]["reason"]
    (seen,) = in_wandb(tmp_path / "two", id_)
    assert (seen["resume"], seen["code"], seen["summary"]["status"]) == (False, 1, "failed")


@pytest.mark.parametrize("words", [("--threads", "2"), ("--workers", "2"), ("--population", "2")])
def test_the_runs_of_a_sweep_are_followed_wherever_they_train(base: Config, tmp_path: Path, words: Any) -> None:
    (tmp_path / "base.json").write_text(to_json(base))
    work = tmp_path / "work"
    argv = [
        "sweep",
        str(tmp_path / "base.json"),
        "--grid",
        "optimizer.learning-rate=0.1,0.05",
        "--track",
        "wandb,mlflow",
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *argv, *words, "--workdir", str(work)],
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "WANDB_PROJECT": "mine", "MLFLOW_EXPERIMENT_NAME": "mine"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    runs = sorted((work / "runs").iterdir())
    assert len(runs) == 2
    for folder in runs:
        label = f"learning_rate={record.read_json(folder / record.CONFIG)['optimizer']['learning_rate']}/20steps/0"
        (logged,) = in_mlflow(tmp_path, folder.name)
        assert (logged["name"], logged["group"], logged["status"]) == (label, "mine", "FINISHED")
        assert logged["history"]["train/loss"] == losses(folder)
        (sent,) = in_wandb(folder, folder.name)
        assert (sent["name"], sent["code"], sent["history"]["train/loss"]) == (label, 0, losses(folder))
        assert json.loads((folder / record.CONFIG).read_text()) == json.loads(to_json(base)) | {
            "optimizer": record.read_json(folder / record.CONFIG)["optimizer"]
        }
    assert holding(tmp_path) == []
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize("name", BOTH)
def test_a_server_that_is_not_there_ends_no_run(
    base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    import wandb

    wandb.teardown()  # it reads its variables once
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{KEY}@127.0.0.1:9")
    monkeypatch.setattr(tracking, "PATIENCE", 2.0)
    with caplog.at_level(logging.WARNING, "research"):
        assert train(base, tmp_path / "run", display=False, track=(name,))["status"] == "finished"
    said = [entry.getMessage() for entry in caplog.records if entry.name == "research"]
    assert said[-1].startswith(f"{name} is left out"), said
    assert KEY not in caplog.text
    assert holding(tmp_path) == []
    wandb.teardown()


def test_a_signal_sends_what_there_is(base: Config, tmp_path: Path) -> None:
    long = replace(base, **{"budget.train": "200000 steps", "checkpointing.every": "0"})
    (tmp_path / "base.json").write_text(to_json(long))
    argv = ["train", str(tmp_path / "base.json"), "--track", "mlflow", "--workdir", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), *argv],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        text=True,
    )
    file = tmp_path / "run" / record.METRICS
    while not (file.exists() and len(record.read_metrics(file)) > 3):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 3, errors
    (seen,) = in_mlflow(tmp_path, run_identity(long).id)
    assert (seen["status"], seen["history"]["train/loss"]) == ("KILLED", losses(tmp_path / "run"))
