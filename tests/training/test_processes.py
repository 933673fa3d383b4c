"""One run by several processes: real ones on loopback, which agree, are killed, are told to stop, and disagree."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest

from research.config import Config, replace, to_json
from research.data.pipeline import Host, evaluation_rows, training_rows
from research.errors import UserError
from research.training import processes, record
from research.training.trained import load

ROOT = Path(__file__).resolve().parents[2]
# No batch norm, so that the order of additions is all that layouts differ in; 359 examples are evaluated, a prime.
PLAIN = replace(
    Config(),
    **{
        "model.name": "lenet5",
        "data.resolution": 16,
        "data.batch_size": 32,
        "data.eval_batch_size": 50,
        "augmentation.pad_and_crop": 1,
        "augmentation.mixup": 0.2,
        "optimizer.learning_rate": 0.05,
        "optimizer.ema_decay": 0.9,
        "budget.train": "5 steps",
        "budget.log_every": "1 steps",
        "budget.eval_every": "5 steps",
    },
)
NORMALISED = replace(
    PLAIN,
    **{
        "model.name": "resnet8",
        "model.width": 4,
        "data.resolution": 8,
        "optimizer.ema_decay": 0.0,
        "budget.train": "2 steps",
        "budget.eval_every": "2 steps",
    },
)
LONGER = replace(
    PLAIN,
    **{
        "budget.train": "40 steps",
        "budget.log_every": "2 steps",
        "budget.eval_every": "20 steps",
        "checkpointing.every": "6 steps",
        "parallelism.sharding": "fsdp",
    },
)
FSDP = {"parallelism.sharding": "fsdp"}
GLOO = re.compile(r"Gloo|peer ranks|^[\d\s]*$")  # it says that it is connected, from several threads at once


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(
    folder: Path, configs: Sequence[Config], devices: int, *, slow: float = 0.0, workdir: str | None = None
) -> list["subprocess.Popen[str]"]:
    """`launch.py train` in a process for each config, `devices` each; `slow` seconds in each of their steps.

    `workdir`: the run's folder, where `folder` only names its configs.
    """
    port, started = free_port(), []
    for number, config in enumerate(configs):
        file = folder.parent / f"{folder.name}-{number}.json"
        file.write_text(to_json(config))
        words = ["train", str(file), "--workdir", workdir or str(folder)]
        if len(configs) > 1:
            words += ["--coordinator", f"127.0.0.1:{port}", "--process-id", str(number)]
            words += ["--num-processes", str(len(configs))]
        program = (
            "import sys, time, launch\n"
            "from research.training import parallel\n"
            "split = parallel.Layout.split\n"
            f"parallel.Layout.split = lambda self, feed, **more: (time.sleep({slow}), split(self, feed, **more))[1]\n"
            f"sys.exit(launch.program({words!r}))\n"
        )
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", program],
                cwd=ROOT,
                env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def ended(started: Sequence["subprocess.Popen[str]"], within: float = 240) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each, which are killed where they have not ended in time."""
    deadline, found = time.monotonic() + within, []
    try:
        for process in started:
            out, errors = process.communicate(timeout=max(deadline - time.monotonic(), 0.1))
            found.append((process.returncode, out, errors))
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
    return found


def trained(folder: Path, config: Config, count: int, devices: int, workdir: str | None = None) -> Path:
    """`folder`, once `count` processes have trained `config` there to its end."""
    outcomes = ended(start(folder, [config] * count, devices, workdir=workdir))
    assert [code for code, _, _ in outcomes] == [0] * count, outcomes
    said = [[line for line in out.splitlines() if not GLOO.search(line)] for _, out, _ in outcomes]
    assert [len(lines) for lines in said] == [1] + [0] * (count - 1), said
    assert json.loads(said[0][0])["status"] == "finished"
    return folder


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def wait_for_step(started: Sequence["subprocess.Popen[str]"], folder: Path, step: int) -> None:
    deadline = time.monotonic() + 180
    while not any(row["step"] >= step for row in record.read_metrics(folder / "metrics.jsonl")):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in started), ended(started)
        time.sleep(0.02)


def comparable(folder: Path) -> list[dict]:
    """The records without what a clock wrote."""
    clock = ("wall_time", "images_per_second")
    return [{k: v for k, v in row.items() if k not in clock} for row in record.read_metrics(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process with four devices."""
    return trained(tmp_path_factory.mktemp("alone") / "run", PLAIN, 1, 4)


@pytest.mark.parametrize(
    ("count", "devices", "changes"),
    [
        (2, 2, {}),
        (4, 1, {}),
        (2, 2, FSDP),
        (2, 1, {"parallelism.accumulate": 2}),
        (2, 2, {"data.input": "streaming", "data.workers": 1}),
    ],
    ids=["2x2", "4x1", "fsdp", "accumulate", "streaming"],
)
def test_several_processes_train_as_one_does(
    count: int, devices: int, changes: dict, alone: Path, tmp_path: Path
) -> None:
    folder = trained(tmp_path / "run", replace(PLAIN, **changes), count, devices)
    ours, theirs = (load(at, checkpoint="last").variables for at in (folder, alone))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        # Only the order of additions differs: 1e-6 of the largest entry after five steps.
        assert np.max(np.abs(a - b)) <= 1e-6 * np.max(np.abs(b))
    rows, expected = (record.read_metrics(at / "metrics.jsonl") for at in (folder, alone))
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        for key in ("train/loss", "eval/loss", "eval_ema/loss"):
            if key in other:
                assert row[key] == pytest.approx(other[key], rel=1e-5), (row["step"], key)
        # Of 359 examples none is missed, and none counts twice: one wrong more or less would be 0.0028.
        assert row.get("eval/accuracy") == pytest.approx(other.get("eval/accuracy"), abs=1e-4)
    described = json.loads((folder / "environment.json").read_text())
    assert (described["processes"], described["device"]["devices"]) == (count, count * devices)


def test_batch_norm_sees_the_batch_of_all_processes(tmp_path: Path) -> None:
    together, alone = trained(tmp_path / "two", NORMALISED, 2, 1), trained(tmp_path / "one", NORMALISED, 1, 2)
    ours, theirs = (load(at, checkpoint="last").variables for at in (together, alone))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        # Batch norm divides by small deviations, which magnifies rounding: 1e-4 where two halves apart would be > 1e-2.
        assert np.max(np.abs(a - b)) <= 1e-4 * np.max(np.abs(b))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing happened to, with split parameters."""
    return trained(tmp_path_factory.mktemp("whole") / "run", LONGER, 2, 1)


@pytest.mark.parametrize("victim", [0, 1])
def test_where_one_is_killed_the_others_end_and_the_run_continues_to_the_same_bits(
    victim: int, uninterrupted: Path, tmp_path: Path
) -> None:
    config, folder = LONGER, tmp_path / "run"
    started = start(folder, [config] * 2, 1, slow=0.1)
    wait_for_step(started, folder, 14)
    started[victim].send_signal(signal.SIGKILL)
    outcomes = ended(started, within=60)
    assert outcomes[victim][0] == -signal.SIGKILL
    assert outcomes[1 - victim][0] != 0
    assert "Traceback" not in outcomes[1 - victim][2]
    for name in ("config.json", "environment.json"):
        json.loads((folder / name).read_text())
    steps = [row["step"] for row in record.read_metrics(folder / "metrics.jsonl")]
    assert steps == sorted(steps)
    trained(folder, config, 2, 1)
    assert summary(folder)["params_digest"] == summary(uninterrupted)["params_digest"]
    assert comparable(folder) == comparable(uninterrupted)


def test_a_signal_to_one_stops_all_after_the_same_step(uninterrupted: Path, tmp_path: Path) -> None:
    config, folder = LONGER, tmp_path / "run"
    started = start(folder, [config] * 2, 1, slow=0.1)
    wait_for_step(started, folder, 8)
    started[1].send_signal(signal.SIGTERM)
    outcomes = ended(started, within=60)
    assert [code for code, _, _ in outcomes] == [3, 3], outcomes
    said = {errors.strip().splitlines()[-1] for _, _, errors in outcomes}
    assert len(said) == 1, said
    assert summary(folder)["status"] == "preempted"
    assert f"preempted at step {summary(folder)['step']} of 40" in said.pop()
    trained(folder, config, 2, 1)
    assert summary(folder)["params_digest"] == summary(uninterrupted)["params_digest"]
    assert comparable(folder) == comparable(uninterrupted)


def test_processes_that_were_told_different_things_train_nothing(tmp_path: Path) -> None:
    other = replace(PLAIN, **{"optimizer.learning_rate": 0.1})
    outcomes = ended(start(tmp_path / "run", [PLAIN, other], 1))
    for code, _, errors in outcomes:
        assert code == 2
        assert "error: process 1 has another config than process 0: optimizer.learning_rate differ" in errors
    assert not (tmp_path / "run").exists()


def test_an_error_of_one_is_the_error_of_all(tmp_path: Path) -> None:
    started = start(tmp_path / "run", [PLAIN] * 3, 1)
    for code, _, errors in ended(started):
        assert code == 2
        assert "error: data.batch_size is 32, not divisible by 3 devices x pairs (mixup, cutmix); nearest:" in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((None, 0, None), "--coordinator and --num-processes missing"),
        (("127.0.0.1", 0, 2), "--coordinator is '127.0.0.1'; expected HOST:PORT"),
        (("127.0.0.1:80000", 0, 2), "expected HOST:PORT"),
        (("127.0.0.1:8000", 2, 2), "--process-id is 2; expected 0 to 1"),
        (("127.0.0.1:8000", 0, 0), "--num-processes is 0"),
        (("auto", 0, 2), "--coordinator auto goes without"),
    ],
)
def test_words_that_contradict_one_another_are_refused(words: tuple, said: str) -> None:
    with pytest.raises(UserError, match=said):
        processes.connect(*words)


def test_one_process_meets_nobody() -> None:
    processes.connect(None, None, None)
    processes.connect("127.0.0.1:8000", 0, 1)
    assert not jax.distributed.is_initialized()
    assert processes.of_each({"a": 1}) == [{"a": 1}]


@pytest.mark.parametrize(("count", "parts"), [(1, 1), (2, 1), (2, 4), (4, 2), (8, 1)])
def test_hosts_share_each_part_of_a_batch(count: int, parts: int) -> None:
    cfg, size = PLAIN.data, PLAIN.data.batch_size
    whole = training_rows(cfg, 1000, 0, 3, Host())["index"].reshape(parts, size // parts)
    shares = [training_rows(cfg, 1000, 0, 3, Host(index, count, parts))["index"] for index in range(count)]
    np.testing.assert_array_equal(np.concatenate([s.reshape(parts, -1) for s in shares], axis=1), whole)
    rows = [evaluation_rows(359, size, number, Host(i, count, parts)) for number in range(12) for i in range(count)]
    seen = np.concatenate([row["index"][row["mask"] > 0] for row in rows])
    np.testing.assert_array_equal(seen, np.arange(359))
