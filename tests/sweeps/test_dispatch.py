"""Dispatch to a place whose answers are given: what waits is not taken for hanging, what runs without a step is."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest

from research.config import Config
from research.sweeps.dispatch import Task, _Dispatch
from research.sweeps.jobs import Job, Resources, Status
from research.training import record

STALL = 0.2
State = Literal["waiting", "running", "ended"]


class Queue:
    """A place with one task at a time, in each of these states for so many seconds, and then ended."""

    interval = 0.01

    def __init__(self, states: Sequence[tuple[State, float]]) -> None:
        self.states, self.cancelled, self.submitted = states, list[int](), 0
        self.began = 0.0

    def submit(self, tasks: Sequence[Task]) -> list[int]:
        (task,) = tasks
        (self.job,) = task.jobs
        self.began = time.monotonic()
        self.submitted += 1
        return [self.submitted]

    def poll(self, handle: int) -> State:
        passed = time.monotonic() - self.began
        for state, seconds in self.states:
            if passed < seconds:
                return state
            passed -= seconds
        return "ended"

    def collect(self, handle: int) -> Mapping[str, tuple[Status, str]]:
        record.write_json(self.job.folder / record.SUMMARY, {"status": "finished"})
        return {self.job.id: ("finished", "")}

    def cancel(self, handle: int) -> None:
        self.cancelled.append(handle)
        self.states = ()

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("states", "hangs"),
    [
        ([("waiting", 4 * STALL)], False),
        ([("waiting", 2 * STALL), ("running", STALL / 4), ("waiting", 3 * STALL), ("running", STALL / 4)], False),
        ([("waiting", STALL / 2), ("running", 20 * STALL)], True),
    ],
    ids=["in a queue", "back into the queue", "running without a step"],
)
def test_what_waits_is_not_taken_for_hanging(states: list[tuple[State, float]], hangs: bool, tmp_path: Path) -> None:
    from etils import epath

    place, said = Queue(states), list[str]()
    job = Job("arm/short/0", "one", Config(), epath.Path(tmp_path / "one"))
    dispatch = _Dispatch(Resources(stall=STALL), place, said.append, threading.Event())
    (outcome,) = dispatch.run([job])
    assert outcome.status == "finished"
    assert place.cancelled == ([1] if hangs else [])
    assert said == (["arm/short/0: no step for 0.2 s; trying again (1 of 2)"] if hangs else [])
