"""Kills, signals and damage: whatever happens to the process, the finished run has the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from research.config import Config, replace, to_json
from research.errors import RunFailed, UserError
from research.training import evaluate, record, train

ROOT = Path(__file__).resolve().parents[2]
CONFIG = replace(
    Config(),
    **{
        "model.name": "resnet8",
        "model.width": 4,
        "data.batch_size": 32,
        "augmentation.pad_and_crop": 1,
        "budget.train": "60 steps",
        "budget.eval_every": "20 steps",
        "budget.log_every": "10 steps",
        "checkpointing.every": "7 steps",
        "parallelism.devices": 1,
    },
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Folder and summary of the run that nothing happened to."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train(CONFIG, folder, display=False)


def launch(folder: Path, *, slow: float = 0.0, config: Config = CONFIG) -> subprocess.Popen:
    """`launch.py train` in a process of its own; `slow` seconds are spent in each step so that it can be hit midway."""
    file = folder.parent / f"{folder.name}.json"
    file.write_text(to_json(config))
    program = (
        "import sys, time, launch\n"
        "from research.training import parallel\n"
        f"split = parallel.Layout.split\n"
        f"parallel.Layout.split = lambda self, feed, **more: (time.sleep({slow}), split(self, feed, **more))[1]\n"
        f"sys.exit(launch.program(['train', {str(file)!r}, '--workdir', {str(folder)!r}]))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        text=True,
    )


def finished_launch(folder: Path, config: Config) -> tuple[Path, dict]:
    """Folder and summary of a run in a process of its own that nothing happened to.

    Launched runs are compared with it, not with one of this process: products of matrices sum in an order that depends
    on the number of threads, and this process has more, for its virtual devices.
    """
    assert launch(folder, config=config).wait(timeout=300) == 0
    return folder, record.read_json(folder / "summary.json")


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    return finished_launch(tmp_path_factory.mktemp("runs") / "launched", CONFIG)


STREAMED = replace(CONFIG, **{"data.input": "streaming", "data.workers": 1})


@pytest.fixture(scope="module")
def launched_stream(tmp_path_factory):
    """The same with examples that a process of its own reads when they are due."""
    return finished_launch(tmp_path_factory.mktemp("runs") / "streamed", STREAMED)


def wait_for_step(process: subprocess.Popen, folder: Path, step: int) -> None:
    """Until the run in `folder` has recorded `step`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if any(row["step"] >= step for row in record.read_metrics(folder / "metrics.jsonl")):
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    raise AssertionError(f"no step {step} within two minutes")


def comparable(folder: Path) -> list[dict]:
    """The records without what a clock wrote."""
    clock = ("wall_time", "images_per_second")
    return [{k: v for k, v in row.items() if k not in clock} for row in record.read_metrics(folder / "metrics.jsonl")]


def assert_same_run(folder: Path, uninterrupted) -> None:
    whole, summary = uninterrupted
    got = record.read_json(folder / "summary.json")
    assert got["status"] == "finished"
    clock = ("train_seconds", "compile_seconds")
    assert {k: v for k, v in got.items() if k not in clock} == {k: v for k, v in summary.items() if k not in clock}
    assert comparable(folder) == comparable(whole)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "sigint"])
def test_a_signal_saves_exits_3_and_the_same_command_continues(sig, tmp_path, launched):
    folder = tmp_path / "run"
    process = launch(folder, slow=0.05)
    wait_for_step(process, folder, 10)
    process.send_signal(sig)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "preempted"
    assert 10 <= summary["step"] < 60
    assert launch(folder).wait(timeout=120) == 0
    assert_same_run(folder, launched)


@pytest.mark.parametrize(
    ("config", "whole"), [(CONFIG, "launched"), (STREAMED, "launched_stream")], ids=["resident", "streaming"]
)
def test_sigkill_at_random_moments_changes_nothing(config, whole, tmp_path, request):
    whole = request.getfixturevalue(whole)
    folder = tmp_path / "run"
    seed = time.time_ns()
    moments = random.Random(seed)
    for at in (10, 30):  # killed twice: once early, once after a resume
        process = launch(folder, slow=0.1, config=config)
        wait_for_step(process, folder, at)
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        process.communicate(timeout=120)
        assert not (folder / "summary.json").exists(), f"seed {seed}: the run had ended before it was killed"
    assert launch(folder, config=config).wait(timeout=120) == 0
    assert_same_run(folder, whole)


def test_killed_between_the_last_save_and_the_summary(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    train(CONFIG, folder, display=False)
    (folder / "summary.json").unlink()
    train(CONFIG, folder, display=False)
    assert_same_run(folder, uninterrupted)


def flip_one_bit(path: Path, chooser: random.Random) -> None:
    content = bytearray(path.read_bytes())
    at = chooser.randrange(len(content))
    content[at] ^= 1 << chooser.randrange(8)
    path.write_bytes(bytes(content))


def test_a_flipped_bit_falls_back_to_the_checkpoint_before(tmp_path, uninterrupted, caplog):
    folder = tmp_path / "run"
    train(CONFIG, folder, display=False)
    (folder / "summary.json").unlink()
    files = [p for p in (folder / "checkpoints" / "60" / "state").rglob("*") if p.is_file() and p.stat().st_size > 4096]
    assert files
    flip_one_bit(max(files, key=lambda p: p.stat().st_size), random.Random(3))
    train(CONFIG, folder, display=False)
    assert "falling back" in caplog.text
    assert_same_run(folder, uninterrupted)


def test_where_no_checkpoint_can_be_read_the_run_stops_and_removes_nothing(tmp_path):
    folder = tmp_path / "run"
    train(CONFIG, folder, display=False)
    (folder / "summary.json").unlink()
    steps = sorted(path for path in (folder / "checkpoints").iterdir() if path.name.isdigit())
    for step in steps:
        (step / "progress" / "metadata").write_text("{}")
    with pytest.raises(RunFailed, match="no checkpoint can be read"):
        train(CONFIG, folder, display=False)
    assert sorted(path for path in (folder / "checkpoints").iterdir() if path.name.isdigit()) == steps


def test_a_finished_folder_is_left_alone_and_compiles_nothing(uninterrupted, monkeypatch):
    folder, summary = uninterrupted
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
    from research.training import resolve

    monkeypatch.setattr(resolve, "resolve", None)  # what comes before any compilation is not even reached
    assert train(CONFIG, folder, display=False) == summary
    assert {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))} == before


def test_a_folder_of_another_config_is_refused_by_key(uninterrupted):
    folder, _ = uninterrupted
    other = replace(CONFIG, **{"optimizer.learning_rate": 0.3, "model.shortcut": "B", "checkpointing.every": "9 steps"})
    with pytest.raises(UserError, match=r"model\.options\.shortcut.*optimizer\.learning_rate") as caught:
        train(other, folder, display=False)
    assert "checkpointing" not in str(caught.value)


def test_a_loss_that_is_not_finite_fails_the_run_and_says_where(tmp_path):
    wild = replace(CONFIG, **{"optimizer.learning_rate": 1e30, "schedule.name": "constant"})
    with pytest.raises(RunFailed, match="step"):
        train(wild, tmp_path / "run", display=False)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "loss" in summary["reason"]


def test_the_best_checkpoint_outlives_restarts_and_is_what_best_means(tmp_path):
    """A rate that jumps a hundredfold ruins the network halfway; two restarts must not lose what was best before."""
    ruin = {
        "schedule.name": "step",
        "schedule.boundaries": (0.5,),
        "schedule.factor": 100.0,
        "budget.eval_every": "10 steps",
    }
    cfg = replace(
        CONFIG,
        **ruin,
        **{"checkpointing.keep_last": 1, "checkpointing.every": "5 steps", "optimizer.learning_rate": 0.05},
    )
    whole = train(cfg, tmp_path / "whole", display=False)
    folder = tmp_path / "run"
    for at in (20, 40):
        process = launch(folder, slow=0.05, config=cfg)
        wait_for_step(process, folder, at)
        process.kill()
        process.communicate(timeout=120)
    summary = train(cfg, folder, display=False)
    assert summary["best/step"] == whole["best/step"] < 60
    kept = {int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit()}
    assert kept == {summary["best/step"], 60}
    found = evaluate(folder)
    assert (found["step"], found["top1"]) == (summary["best/step"], summary["best/top1"])


def test_two_processes_in_one_folder_are_told_apart(tmp_path):
    folder = tmp_path / "run"
    process = launch(folder, slow=0.1)
    wait_for_step(process, folder, 10)
    with pytest.raises(UserError, match="in use"):
        train(CONFIG, folder, display=False)
    process.kill()
    process.communicate(timeout=120)
    assert train(CONFIG, folder, display=False)["status"] == "finished"


def test_the_last_and_the_best_checkpoints_are_kept(uninterrupted):
    folder, summary = uninterrupted
    kept = sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())
    assert kept == sorted({56, 60, summary["best/step"]})


def test_what_a_run_leaves_in_its_folder(uninterrupted):
    folder, summary = uninterrupted
    run = record.read_run(folder)
    assert {"versions", "device", "xla_flags", "matmul_precision", "git_commit", "git_dirty", "code_digest"} <= set(
        run.environment
    )
    assert len(run.environment["dataset_fingerprint"]) == 64
    assert [row["step"] for row in run.metrics if "train/loss" in row] == [10, 20, 30, 40, 50, 60]
    assert [row["step"] for row in run.metrics if "eval/top1" in row] == [20, 40, 60]
    assert run.metrics[-1]["eval/top1"] == summary["eval/top1"]
    assert {"params", "macs", "activations", "train_seconds", "compile_seconds", "params_digest"} <= set(summary)
    assert list((folder / "tensorboard").glob("events.*"))
