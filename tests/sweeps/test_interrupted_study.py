"""A study that is killed at random moments and launched again ends as one that nothing happened to."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import launch
from research.sweeps import results
from research.training import record

ROOT = Path(__file__).resolve().parents[2]
STUDY = '''"""Does a skip help four layers?"""

from research.config import Config, replace
from research.reports import arms
from research.reports.comparison import Claim
from research.reports.document import Section
from research.sweeps import design

SCALES = ("smoke",)
VARIES = ("model.name",)
BASE = replace(Config(), **{
    "model.name": "resnet8", "model.width": 4, "data.batch_size": 64, "data.train_examples": 256,
    "budget.train": "24 steps", "budget.eval_every": "12 steps", "budget.log_every": "4 steps",
    "checkpointing.every": "6 steps", "parallelism.devices": 1,
})


def runs(scale):
    return [p for arm, name in (("plain", "plain8"), ("residual", "resnet8"))
            for p in design.planned(arm, "depth8", replace(BASE, **{"model.name": name}), seeds=range(3))]


def _claims(group, metric, errors):
    return [Claim("residual against plain", metric, errors("residual", "depth8"), errors("plain", "depth8"), 3)]


def _sections(group, judged):
    return [Section("Arms", arms.states(group), [arms.table(group, lambda arm, at: {"arm": arm, "budget": at})])]


def report(results):
    return arms.document("Skips", "Does a skip help?", results, _claims, _sections)
'''
KILLS = 3
CLOCK = ("train_seconds", "compile_seconds")


def start(folder: Path) -> subprocess.Popen[str]:
    """`launch.py study` in a process group of its own, its workdir `runs` in `folder`."""
    (folder / "skips.py").write_text(STUDY)
    words = [str(ROOT / "launch.py"), "study", "skips.py", "--workdir", "runs"]
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def killed(process: subprocess.Popen[str], after: float) -> str:
    """What it printed in so many seconds, at the end of which it is killed if it is still there."""
    try:
        return process.communicate(timeout=after)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate(timeout=60)[0]


def labels_of(printed: str) -> list[str]:
    """The runs that a launch said it has trained to their end."""
    return [line.partition("] ")[2].split("  ")[0] for line in printed.splitlines() if "  finished  " in line]


def without_the_clock(folder: Path) -> dict[str, str | bytes]:
    """The report's files, made again with no measured times in the records."""
    workdir = folder / "runs"
    for file in workdir.glob(f"runs/*/{record.SUMMARY}"):
        record.write_json(file, {k: 0.0 if k in CLOCK else v for k, v in record.read_json(file).items()})
    with contextlib.chdir(folder):  # a study of one's own is named by its path
        assert launch.main(["report", "runs"]) == 0
    figures = {file.name: file.read_bytes() for file in workdir.glob("figures/*.svg")}
    text, sections = re.subn(r"^## Cost\n.*?^(?=## )", "", (workdir / "README.md").read_text(), flags=re.M | re.S)
    assert sections == 1, "images per second are there alone"
    return {**figures, "README": text, "results": (workdir / "results.csv").read_text()}


def test_killed_at_random_moments_it_repeats_and_loses_nothing(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    began = time.monotonic()
    out, errors = start(whole).communicate(timeout=300)
    assert "6 run, 0 failed" in out, errors
    seed = time.time_ns()
    moments, ended = random.Random(seed), Counter[str]()
    took = time.monotonic() - began
    for _ in range(KILLS):
        ended.update(labels_of(killed(start(broken), after=moments.uniform(0, took))))
    out, errors = start(broken).communicate(timeout=300)
    assert " 0 failed" in out, f"seed {seed}: {errors}"
    ended.update(labels_of(out))
    assert all(count == 1 for count in ended.values()), f"seed {seed}: trained more than once: {ended}"
    [study] = results.read(broken / "runs")
    assert [r.status for r in study.results] == ["finished"] * 6, f"seed {seed}"
    expected, got = without_the_clock(whole), without_the_clock(broken)
    assert got == expected, f"seed {seed}"
