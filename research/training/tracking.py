"""Who follows a run besides its folder: TensorBoard's files, and the trackers that were asked for.

These may be at the other end of a network, which training never waits for: each is told by a thread of its own, in
order. One that fails is left out of the run, with one warning, and the run goes on. Nothing of the environment is sent,
and secrets that an error shows are taken out of the warning.
"""

import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from research.training import trackers
from research.training.trackers import Run, Status, Tracker

PATIENCE = 60.0  # seconds that a tracker may take for what it is still to be told when nothing is left to train
SOON = 5.0  # seconds of it without a word
MOST = 10_000  # records that may wait for it meanwhile
_SECRET = re.compile("KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)  # in names of environment variables
_LOG = logging.getLogger("research")


@dataclass(frozen=True)
class Tracking:
    """The `names` of the trackers that follow a run, what it is called there, and of what it is one (`group`).

    Without a `run` it is called as its folder. No part of a config, and so of no run's identity.
    """

    names: tuple[str, ...] = ()
    run: str = ""
    group: str = ""


class Followed:
    """One run, told to all who follow it."""

    def __init__(self, names: tuple[str, ...], run: Run) -> None:
        asked = [name for name in dict.fromkeys(names) if name != trackers.ALWAYS]
        self._followers = [_Follower(trackers.ALWAYS, run, lambda call: call())]
        self._followers += [_Follower(name, run, _outbox(name).put) for name in asked]
        self._has_ended = False

    def write(self, row: Mapping[str, Any]) -> None:
        """Tell the numbers of one record, which has a `step`."""
        step, apart = int(row["step"]), ("step", "wall_time")
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key not in apart}
        for follower in self._followers:
            follower.tell(lambda tracker: tracker.write(step, numbers))

    def end(self, status: Status, summary: Mapping[str, Any]) -> None:
        """Tell how the run has ended; nothing where that has been told."""
        if not self._has_ended:
            self._has_ended = True
            short = {key: value for key, value in summary.items() if isinstance(value, int | float | str)}
            for follower in self._followers:
                follower.tell(lambda tracker: tracker.end(status, short))


class _Follower:
    """One run at one tracker. `send`: calls what it is given, now or in a while, never two at a time."""

    def __init__(self, name: str, run: Run, send: Callable[[Callable[[], None]], None]) -> None:
        self._name, self._run, self._send = name, run, send
        self._tracker: Tracker | None = None
        send(lambda: self._try(self._begin))

    def _begin(self) -> None:
        self._tracker = trackers.modules()[self._name].begin(self._run)

    def tell(self, what: Callable[[Tracker], None]) -> None:
        self._send(lambda: self._try(lambda: self._pass_on(what)))

    def _pass_on(self, what: Callable[[Tracker], None]) -> None:
        if self._tracker is not None:
            what(self._tracker)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # whatever it is, it is no reason to lose the run
            self._tracker = None
            _warn(f"{self._name} is left out of {self._run.name}", f"{type(error).__name__}: {error}")


class _Outbox:
    """What one tracker is still to be told by this process, and the thread that does so."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue(MOST)
        self._is_out = False
        threading.Thread(target=self._send, name=f"tracker {name}", daemon=True).start()

    def put(self, call: Callable[[], None]) -> None:
        if self._is_out:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._leave_out(f"it has not taken {MOST} records")

    def _send(self) -> None:
        while True:
            call = self._calls.get()
            if not self._is_out:
                call()

    def wait(self, deadline: float) -> None:
        """Until it has been told everything; where that is not by `deadline`, it is told nothing more."""
        told = threading.Event()
        self.put(told.set)
        if self._is_out or told.wait(min(SOON, deadline - time.monotonic())):
            return
        _LOG.warning("%s has not taken all yet: waiting for at most %.0f s", self._name, PATIENCE)
        if not told.wait(max(0.0, deadline - time.monotonic())):
            self._leave_out(f"it has not taken what was left within {PATIENCE:.0f} s")

    def _leave_out(self, reason: str) -> None:
        self._is_out = True
        _warn(f"{self._name} is left out from here on", reason)


_outboxes: dict[str, _Outbox] = {}
_lock = threading.Lock()
_said: set[str] = set()


def _outbox(name: str) -> _Outbox:
    with _lock:
        if name not in _outboxes:
            _outboxes[name] = _Outbox(name)
        return _outboxes[name]


def drain() -> None:
    """Wait until every tracker has been told everything, at most `PATIENCE` seconds."""
    with _lock:
        waiting = list(_outboxes.values())
    deadline = time.monotonic() + PATIENCE
    for outbox in waiting:
        outbox.wait(deadline)


def _warn(what: str, why: str) -> None:
    """Say a thing in one line; for the same reason only once."""
    reason = " ".join(without_secrets(why).split())[:300]
    with _lock:
        if reason in _said:
            return
        _said.add(reason)
    _LOG.warning("%s: %s", what, reason)


def without_secrets(text: str) -> str:
    """A text without passwords of addresses in it, and without what secrets the environment holds."""
    hidden = {value for name, value in os.environ.items() if _SECRET.search(name) and len(value) >= 6}
    for value in sorted(hidden, key=len, reverse=True):
        text = text.replace(value, "***")
    return re.sub(r"://[^/\s@]+@", "://***@", text)
