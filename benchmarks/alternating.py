"""Several sides timed in turns: each a process of its own that stays alive and does what it is told over a pipe.

A shared machine is not always as fast. So rounds go A B A B ..., and what counts is a ratio of medians of one run. The
processes may belong to different environments: this file needs nothing but Python.
"""

import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Timer = Callable[[int], float]  # number of calls -> seconds of one of them
Spec = dict[str, Any]
SHORTEST = 0.05  # seconds of a turn: shorter calls are made several times in a row


class SideFailed(RuntimeError):
    """A side could not do what it was told; the message is its own."""


def serve(prepare: Callable[[Spec], tuple[Mapping[str, Timer], Spec]]) -> None:
    """Be a side until the pipe closes. `prepare` gives what can be timed of a specification, by name, and facts."""
    # What libraries print must not get between the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    timers: Mapping[str, Timer] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if "prepare" in asked:
                timers = {}  # before the next ones take up memory
                timers, reply = prepare(asked["prepare"])
            else:
                reply = {"seconds": timers[asked["time"]](asked["calls"])}
        except Exception as error:  # whatever it is, the other end has to know
            reply = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:400]}
        print(json.dumps(reply), file=replies, flush=True)


@dataclasses.dataclass
class Side:
    """The process behind one side, as seen from the other end of the pipe; a context manager, which ends it.

    Entering it raises `SideFailed` where there is no such program.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str | None] = dataclasses.field(default_factory=dict)  # over this one's; None: not set

    def __enter__(self) -> "Side":
        env = {key: value for key, value in {**os.environ, **self.environment}.items() if value is not None}
        self._errors = tempfile.TemporaryFile("w+")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        try:
            self._process = subprocess.Popen(list(self.command), cwd=ROOT, env=env, text=True, **pipes)
        except OSError as error:
            raise SideFailed(f"{self.name} cannot start: {error}") from error
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._errors.close()

    def prepare(self, spec: Spec) -> Spec:
        """Make the side ready to be timed on `spec`; its facts. Raises `SideFailed`."""
        return self._ask({"prepare": spec})

    def timer(self, name: str) -> Timer:
        """What the side prepared under a name, to be timed from here."""
        return lambda calls: float(self._ask({"time": name, "calls": calls})["seconds"])

    def _ask(self, asked: Spec) -> Spec:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(asked), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines()
            raise SideFailed(f"{self.name} ended: {said[-1] if said else 'it said nothing'}")
        reply: Spec = json.loads(line)
        if "error" in reply:
            raise SideFailed(f"{self.name}: {reply['error']}")
        return reply


def wall_timer(call: Callable[[], Any], wait: Callable[[Any], Any] = lambda made: made) -> Timer:
    """The seconds of one of several calls in a row; `wait` blocks until what a call gave is there."""

    def seconds(calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            made = call()
        wait(made)
        return (time.perf_counter() - began) / calls

    return seconds


def alternate(timers: Mapping[str, Timer], *, budget: float, most: int = 15) -> dict[str, list[float]]:
    """Seconds of each timer in each round. All are warm: called once before.

    As many rounds as fit into `budget` seconds: at least 5 where all take less than a second, else 3; at most `most`.
    """
    once = {name: timer(1) for name, timer in timers.items()}
    calls = {name: max(1, math.ceil(SHORTEST / seconds)) for name, seconds in once.items()}
    fewest = 5 if max(once.values()) < 1 else 3
    fitting = int(min(most, budget / sum(calls[name] * seconds for name, seconds in once.items())))
    taken: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(max(fewest, fitting)):
        for name, timer in timers.items():
            taken[name].append(timer(calls[name]))
    return taken


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """How many times as long they take: the ratio of the medians, and the quartiles of the rounds' own ratios."""
    each = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    low, _, high = statistics.quantiles(each, n=4, method="inclusive")
    return statistics.median(theirs) / statistics.median(ours), low, high
