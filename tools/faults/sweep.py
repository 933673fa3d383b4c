"""The sweep that faults are injected into: its command line, its processes, its moments, and what it ends with."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from research.sweeps import results
from research.training import record

ROOT = Path(__file__).resolve().parents[2]
RUNS = 6
EVALUATE = 40  # steps
CONFIG = {
    "model": {"name": "lenet5"},
    "data": {"name": "digits", "resolution": 16, "batch_size": 32},
    "augmentation": {"pad_and_crop": 1},
    "optimizer": {"name": "nesterov", "learning_rate": 0.02},
    "budget": {"train": "120 steps", "eval_every": f"{EVALUATE} steps", "log_every": "10 steps"},
    "checkpointing": {"every": "20 steps"},
    "parallelism": {"devices": 1},
}
IMAGES = {"name": "image_folder", "path": "images", "resolution": 16, "batch_size": 16, "input": "streaming"}
# How the runs of the sweep are trained.
SHAPES: dict[str, tuple[str, ...]] = {
    "threads": ("--threads", "2", "--population", "1"),
    "workers": ("--workers", "2"),
    "population": ("--population", "3"),
    "images": ("--threads", "1", "--population", "1"),
}
LIMIT = 150.0  # seconds in which a launch ends
CLOCK = ("wall_time", "images_per_second", "train_seconds", "compile_seconds")
# Of the environment: what tells of the moment, and not of the run.
MOMENT = ("runs_at_once", "git_commit", "git_dirty")


class Processes:
    """All launches of a campaign, for whoever ends it before its time."""

    def __init__(self) -> None:
        self.started, self.stopped = list[Launch](), False

    def stop(self) -> None:
        """End those that are there, and let no other begin."""
        self.stopped = True
        for launch in list(self.started):
            if launch.alive:
                launch.signal(signal.SIGKILL)


class Lost(Exception):
    """A sweep did not survive a fault: why."""


def write_config(folder: Path, shape: str) -> Path:
    """The config file of a sweep, and its images where it has some."""
    values = dict(CONFIG)
    if shape == "images":
        write_images(folder / "images")
        values["data"] = IMAGES
    file = folder / "config.json"
    file.write_text(json.dumps(values, indent=1))
    return file


def write_images(folder: Path) -> None:
    """Two classes that a small network can tell apart: 64 images to train on, 16 to evaluate."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for split, count in (("train", 32), ("test", 8)):
        for label, level in (("dark", 60), ("light", 190)):
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(chance.normal(level, 50, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{number:02}.png")


@dataclass
class Launch:
    """One process that was given the command, and what it said."""

    process: "subprocess.Popen[str]"
    began: float = field(default_factory=time.time)
    said: str = ""

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def end(self, limit: float = LIMIT) -> int:
        """Wait for it; its exit code. Raises `Lost` where it does not end, or ends with a traceback."""
        try:
            out, errors = self.process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Lost(f"a launch had not ended after {limit:.0f} s") from None
        self.said = out + errors
        if "Traceback" in self.said and "KeyboardInterrupt" not in self.said:
            raise Lost(f"a launch ended with a traceback: {self.said.strip().splitlines()[-1]}")
        return self.process.returncode

    def kill(self) -> None:
        """End it and its workers, and wait for that."""
        self.signal(signal.SIGKILL)
        self.process.communicate()

    def signal(self, number: int) -> None:
        """A signal to it and its workers."""
        for pid in (*self.workers(), self.process.pid):
            with contextlib.suppress(OSError):
                os.kill(pid, number)

    def workers(self) -> list[int]:
        """Its worker processes."""
        found = []
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, IndexError):
                parent = int(file.read_text().rpartition(")")[2].split()[1])
                words = (file.parent / "cmdline").read_bytes()
                if parent == self.process.pid and b"research.sweeps.worker" in words:
                    found.append(int(file.parent.name))
        return sorted(found)


@dataclass
class Sweep:
    """A sweep in a folder of its own. `reference`: what it ends with where nothing happens to it."""

    folder: Path
    shape: str
    chance: random.Random
    processes: Processes
    boot: float = 3.0  # seconds until the first run begins
    more: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    preload: Mapping[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """Its workdir."""
        return self.folder / "work"

    def words(self, verb: str = "sweep") -> list[str]:
        """A command line of it."""
        if verb == "report":
            return ["report", "work"]
        config, grid = "config.json", ["--grid", "optimizer.learning-rate=0.02,0.05", "--seeds", "3"]
        return ["sweep", config, *grid, *SHAPES[self.shape], *self.more, "--workdir", "work"]

    def start(self, verb: str = "sweep", *words: str) -> Launch:
        """Launch it in a process of its own."""
        if self.processes.stopped:
            raise Lost("the campaign was stopped")
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", **self.environment, **self.preload}
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "launch.py"), *(words or self.words(verb))],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.started.append(launch := Launch(process))
        return launch

    def finish(self) -> Launch:
        """The same command until it is done, each time after what its last words named. Raises `Lost`."""
        for _ in range(4):
            launch = self.start()
            if launch.end() == 0:
                return launch
            self.remedy(launch.said)
        raise Lost(f"the same command does not finish: {launch.said.strip().splitlines()[-1]}")

    def remedy(self, said: str) -> None:
        """Do what an error asks for: move a folder away, or remove a file."""
        for place in re.findall(r"move (\S+) away to start anew", said):
            shutil.move(self.folder / place, f"{self.folder / place}.away-{time.monotonic_ns()}")
        for file in re.findall(r"(\S+) is damaged: [^\n]*; remove it and", said):
            (self.folder / file).unlink()

    def changed(self, pattern: str, since: float) -> list[Path]:
        """Files of the workdir that have been written since then."""
        found = []
        for file in self.work.glob(pattern):
            with contextlib.suppress(OSError):
                if file.stat().st_mtime >= since:
                    found.append(file)
        return found


def without(values: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """All but these keys."""
    return {key: value for key, value in values.items() if key not in keys}


def outcome(work: Path) -> dict[str, dict[str, Any]]:
    """Every record of every run of a finished sweep by its label, without what a clock wrote."""
    (study,) = results.read(work)
    found = {}
    for result in study.results:
        found[result.label] = {
            "id": result.id,
            "status": result.status,
            "summary": without(result.summary, CLOCK),
            "metrics": [without(row, CLOCK) for row in result.metrics],
            "config": result.config,
            "environment": without(result.environment, MOMENT),
        }
    return found


def compare(work: Path, reference: Mapping[str, Any]) -> None:
    """Raises `Lost` where a finished sweep is not the one that nothing happened to."""
    found = outcome(work)
    if found.keys() != reference.keys():
        raise Lost(f"runs {sorted(found)} instead of {sorted(reference)}")
    for label, expected in reference.items():
        for part, value in expected.items():
            if found[label][part] != value:
                raise Lost(
                    f"run {label} ({found[label]['id']}): another {part}: {difference(found[label][part], value)}"
                )
    table = (work / "results.csv").read_text().splitlines()
    if len(table) != 1 + len(reference):
        raise Lost(f"results.csv has {len(table) - 1} rows of {len(reference)}")
    if left := [*work.glob("groups/*/checkpoints"), *work.glob("runs/*/.*.partial")]:
        raise Lost(f"left behind: {left[0]}")


def difference(found: Any, expected: Any) -> str:
    """Where two values differ, in few words."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted({*found, *expected}):
            if found.get(key) != expected.get(key):
                return f"{key}: {difference(found.get(key), expected.get(key))}"
    if isinstance(found, list) and isinstance(expected, list):
        if len(found) != len(expected):
            return f"{len(found)} of {len(expected)}"
        for at, (one, other) in enumerate(zip(found, expected, strict=True)):
            if one != other:
                return f"[{at}] {difference(one, other)}"
    return f"{str(found)[:60]} instead of {str(expected)[:60]}"


def durations(work: Path, within: float) -> None:
    """Raises `Lost` where what a clock wrote cannot be: less than nothing, going back, more than there was."""
    (study,) = results.read(work)
    for result in study.results:
        walls = [row["wall_time"] for row in result.metrics]
        rates = [row["images_per_second"] for row in result.metrics if "images_per_second" in row]
        seconds = [result.summary["train_seconds"], result.summary["compile_seconds"], *walls]
        if not all(0 <= second <= within for second in seconds) or walls != sorted(walls) or min(rates) <= 0:
            raise Lost(f"run {result.label}: seconds {min(seconds):.1f} to {max(seconds):.1f} of {within:.1f}")


@contextlib.contextmanager
def mounted(place: Path, *words: str) -> Iterator[None]:
    """A file system at `place`, as `mount WORDS place`."""
    subprocess.run(["mount", *words, str(place)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)


def metrics_of(file: Path) -> list[dict[str, Any]]:
    """The sound records of a file that is being written."""
    return record.sound_metrics(file)[0]
