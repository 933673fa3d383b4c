"""Train hundreds of short runs in one sweep on two workers, and see whether memory, handles or processes pile up.

    python tools/soak.py [--runs 500]

Samples the launch and both workers once a second: resident memory, open files, zombies. Prints for each a line by least
squares over what came after the first fifth of the runs: bytes and files for every run that it had to do with (a worker
half of them). Exit code 0 if all are flat.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SEEDS = 10
FLAT = 49_152  # bytes for every run: 49 MB of a worker, which is replaced after a thousand (`executors/local.py`)
FLAT_FILES = 0.01
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
CONFIG = {
    "data": {"name": "digits", "batch_size": 64, "train_examples": 256},
    "schedule": {"name": "constant"},
    "budget": {"train": "5 steps", "eval_every": "0", "log_every": "1 steps"},
    "checkpointing": {"every": "5 steps"},
    "parallelism": {"devices": 1},
}


def start(folder: Path, runs: int) -> "subprocess.Popen[str]":
    """The sweep, in a process of its own."""
    (folder / "network.py").write_text(NETWORK)
    config = CONFIG | {"model": {"name": f"{folder / 'network.py'}:Linear"}}
    (folder / "config.json").write_text(json.dumps(config))
    rates = ",".join(f"{0.01 * (1 + at):g}" for at in range(runs // SEEDS))
    grid = ["--grid", f"optimizer.learning-rate={rates}", "--seeds", str(SEEDS), "--workers", "2"]
    command = [sys.executable, "launch.py", "sweep", str(folder / "config.json"), *grid]
    return subprocess.Popen(
        [*command, "--workdir", str(folder / "work")],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
    )


def family(pid: int) -> dict[int, str]:
    """A process and its children, with the state of each."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
            if pid in (int(parent), int(file.parent.name)):
                found[int(file.parent.name)] = state
    return found


def sample(pid: int) -> tuple[int, int]:
    """Resident bytes and open files of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))


def follow(process: "subprocess.Popen[str]") -> tuple[dict[int, list[tuple[int, int, int]]], int, int]:
    """Samples (runs that are done, bytes, files) of each process until the sweep ends, most zombies, and runs done."""
    done = 0

    def listen() -> None:
        nonlocal done
        assert process.stdout is not None
        for line in process.stdout:
            done += "  finished  " in line

    threading.Thread(target=listen, daemon=True).start()
    samples: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    zombies, before = 0, set[int]()
    while process.poll() is None:
        states = family(process.pid)
        dead = {pid for pid, state in states.items() if state == "Z"}
        zombies, before = max(zombies, len(dead & before)), dead  # one that ends just now is no zombie yet
        for pid, state in states.items():
            with contextlib.suppress(OSError):
                if state != "Z":
                    samples[pid].append((done, *sample(pid)))
        time.sleep(1.0)
    return samples, zombies, done


def main() -> int:
    """Soak; 0 where nothing piles up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs // SEEDS * SEEDS
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        process = start(Path(scratch), runs)
        samples, zombies, done = follow(process)
    flat = process.returncode == 0 and done == runs and zombies == 0
    for pid, taken in samples.items():
        later = np.array([row for row in taken if runs // 5 <= row[0] < runs], np.float64)
        if len(later) < 10:  # it only looked something up
            continue
        share, name = (1.0, "launch") if pid == process.pid else (0.5, f"worker {pid}")
        bytes_, files = (float(np.polyfit(share * later[:, 0], later[:, at], 1)[0]) for at in (1, 2))
        level = bytes_ <= FLAT and files <= FLAT_FILES
        flat &= level
        print(
            f"{name}: {len(later)} samples, {later[0, 1] / 1e6:.0f} to {later[-1, 1] / 1e6:.0f} MB resident, "
            f"{bytes_:+.0f} bytes a run; {later[0, 2]:.0f} to {later[-1, 2]:.0f} open files, {files:+.4f} a run: "
            f"{'flat' if level else 'not flat'}"
        )
    print(f"{done} of {runs} runs in {time.monotonic() - began:.0f} s, most zombies at a time {zombies}")
    print("flat" if flat else "not flat")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
