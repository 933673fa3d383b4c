"""Phases of a launch, each recognised from outside by what lies on the disk."""

import random
import time

from tools.faults.sweep import EVALUATE, RUNS, Launch, Sweep, metrics_of

PHASES = ("importing", "compiling", "training", "evaluating", "saving", "reporting")


def reached(sweep: Sweep, launch: Launch, phase: str, chance: random.Random) -> bool:
    """Wait for a random moment of a phase of this launch; False where it ended before."""
    if phase == "importing":
        return _pause(launch, chance.uniform(0, sweep.boot))
    while launch.alive:
        if _is(sweep, launch, phase):
            longest = {"compiling": 1.0, "training": 1.5, "reporting": 1.5}.get(phase, 0.01)
            return _pause(launch, chance.uniform(0, longest))
        time.sleep(0.002 if phase in ("evaluating", "saving") else 0.05)
    return False


def _is(sweep: Sweep, launch: Launch, phase: str) -> bool:
    if phase == "compiling":
        return bool(sweep.changed("runs/*/.lease/*", launch.began))
    if phase == "training":
        return bool(sweep.changed("runs/*/metrics.jsonl", launch.began))
    if phase == "evaluating":
        return any(_evaluates(file) for file in sweep.changed("runs/*/metrics.jsonl", launch.began))
    if phase == "saving":
        return bool([*sweep.work.glob("runs/*/checkpoints/*tmp*"), *sweep.work.glob("groups/*/checkpoints/*tmp*")])
    return len(list(sweep.work.glob("runs/*/summary.json"))) == RUNS


def _evaluates(file) -> bool:  # type: ignore[no-untyped-def]
    rows = metrics_of(file)
    return bool(rows) and rows[-1]["step"] % EVALUATE == 0 and "train/loss" in rows[-1]


def _pause(launch: Launch, seconds: float) -> bool:
    """Sleep, unless the launch ends before."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if not launch.alive:
            return False
        time.sleep(min(left, 0.05))
    return launch.alive
