"""Sweeps that meet trouble: a network that dies or hangs when it is told to, and launches that can be hit midway."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from research.config import Config, replace, to_json
from research.sweeps.plan import Planned
from research.sweeps.study import Outcome
from research.training import lease, record

ROOT = Path(__file__).resolve().parents[2]
# A network that keeps its process busy for ever, or ends it, where a file beside it says so: each file does so once.
NETWORK = """
import os, pathlib, signal, sys, time

import flax.linen as nn
import jax.numpy as jnp

def once(name):
    file = pathlib.Path(__file__).with_name(name)
    if file.exists():
        file.unlink()
        return True
    return False

class Linear(nn.Module):
    num_classes: int
    dtype: type = jnp.float32
    trouble: str = ""

    @nn.compact
    def __call__(self, images, *, train):
        if train and self.trouble and once(self.trouble):
            print("in trouble:", self.trouble, file=sys.stderr, flush=True)
            if self.trouble.startswith("hang"):
                time.sleep(1000)
            os.kill(os.getpid(), signal.SIGKILL)
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))
"""


def config(tmp_path: Path) -> Config:
    """Twenty steps of the network, which lies in this folder with what tells it to be in trouble."""
    (tmp_path / "network.py").write_text(NETWORK)
    changes = {"model.name": f"{tmp_path / 'network.py'}:Linear", "data.train_examples": 256, "data.batch_size": 64}
    budget = {"budget.train": "20 steps", "budget.eval_every": "0", "checkpointing.every": "5 steps"}
    return replace(Config(), **changes, **budget, **{"schedule.name": "constant", "parallelism.devices": 1})


def planned(config: Config, arm: str, **changes: object) -> Planned:
    return Planned(arm, "short", 0, replace(config, **changes))


def statuses(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.job.label.partition("/")[0]: outcome.status for outcome in outcomes}


def start(workdir: Path, base: Config, *words: str, slow: float = 0.0) -> "subprocess.Popen[str]":
    """`launch.py sweep` of six runs, two at a time in other processes; `slow` seconds in each of their steps."""
    config = workdir.parent / "config.json"
    config.write_text(to_json(base))
    grid = ["--grid", "optimizer.learning-rate=0.1,0.05,0.01", "--seeds", "2"]
    argv = ["sweep", str(config), *grid, "--workers", "2", *words, "--workdir", str(workdir)]
    (workdir.parent / "slow").mkdir(exist_ok=True)
    # Python imports this by itself in every process that finds it.
    (workdir.parent / "slow" / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if not any(word.endswith(('launch.py', 'slurm_node.py', 'raylet', 'gcs_server')) for word in sys.orig_argv):\n"
        "    from research.training import parallel\n"
        "    split = parallel.Layout.split\n"
        f"    parallel.Layout.split = lambda self, feed, **more: (time.sleep({slow}), split(self, feed, **more))[1]\n"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"} | (
        {"PYTHONPATH": str(workdir.parent / "slow")} if slow else {}
    )
    return subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), *argv],
        cwd=workdir.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_step(process: "subprocess.Popen[str]", workdir: Path, step: int) -> None:
    """Until a run of the sweep in `workdir` has recorded `step`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        files = [run / "metrics.jsonl" for run in (workdir / "runs").glob("*")]
        if any(row["step"] >= step for file in files for row in record.read_metrics(file)):
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    raise AssertionError(f"no step {step} within two minutes")


def workers_of(workdir: Path) -> list[int]:
    """The processes that hold a run of this workdir."""
    files = (workdir / "runs").glob(f"*/{lease.FOLDER}/*.json")
    held = [values for file in files if not (values := json.loads(file.read_text()))["released"]]
    return [values["pid"] for values in held]


def gone(pids: list[int], within: float) -> None:
    """Until these processes have ended."""
    deadline = time.monotonic() + within
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.05)


def digests(workdir: Path) -> dict[str, str]:
    files = sorted((workdir / "runs").glob("*/summary.json"))
    return {file.parent.name: json.loads(file.read_text())["params_digest"] for file in files}
