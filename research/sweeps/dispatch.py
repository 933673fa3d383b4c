"""Runs in other processes: what is common to every place that can hold them.

A `Place` starts tasks and says what became of them. `outcomes` gives it the jobs of a sweep, tries those again whose
process died, ends those that hang, and leaves nothing running, whatever the end.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from research import backend
from research.errors import Preempted
from research.sweeps import jobs as values
from research.sweeps import store, work
from research.sweeps.jobs import Job, Outcome, Resources
from research.training import lease, preemption, record

Handle = TypeVar("Handle")
LOOKS = 10.0  # seconds between two looks at whether a task has come further
LINES = 20  # last lines of the log of a process that died, kept with the failure


@dataclass(frozen=True)
class Task:
    """Jobs that train in one process as one thing: a run, or what is left of a group. `values`: as JSON."""

    jobs: tuple[Job, ...]

    @property
    def label(self) -> str:
        """By which people speak of it."""
        return self.jobs[0].label + (f" and {len(self.jobs) - 1} more" if len(self.jobs) > 1 else "")

    @property
    def encoded(self) -> dict[str, Any]:
        """As JSON values, for another process."""
        return values.encode(self.jobs)


class Died(Exception):
    """The process of a task ended without a word about it. `log`: the last lines of what it had written."""

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.log = log


def last_lines(text: bytes | str) -> str:
    """The end of a log."""
    lines = (text.decode(errors="replace") if isinstance(text, bytes) else text).splitlines()
    return "\n".join(lines[-LINES:])


class Place(Protocol[Handle]):
    """Where tasks run. None of its methods waits for a task."""

    interval: float  # seconds between two polls

    def submit(self, tasks: Sequence[Task]) -> list[Handle]:
        """Hand tasks over, to be run as soon as there is room; one handle for each."""

    def poll(self, handle: Handle) -> Literal["waiting", "running", "ended"]:
        """How far a task is."""

    def collect(self, handle: Handle) -> Mapping[str, tuple[values.Status, str]]:
        """Of an ended task: status and reason of each job, by its id. Raises `Died`, and `Preempted`."""

    def cancel(self, handle: Handle) -> None:
        """End a task by force, with all processes that it had started; it counts as ended from now on."""

    def close(self) -> None:
        """Let tasks that are running save their state and end, wait for that, and let go of everything."""


class _Progress:
    """Whether a task gets any further: what its leases say of the steps."""

    def __init__(self, task: Task, stall: float) -> None:
        self.task, self.stall = task, stall
        self._seen, self._since = self._look(), time.monotonic()
        self._looked = self._since

    def _look(self) -> list[tuple[int, int]]:
        found = [lease.progress(job.folder) for job in self.task.jobs]
        return [(progress.token, progress.step) for progress in found]

    def hangs(self) -> bool:
        """Whether it was last seen to have come further more than `stall` seconds ago."""
        now = time.monotonic()
        if now - self._looked >= min(LOOKS, self.stall / 4):
            self._looked = now
            if (seen := self._look()) != self._seen:
                self._seen, self._since = seen, now
        return now - self._since > self.stall


def outcomes(
    jobs: Sequence[Job],
    resources: Resources,
    make: Callable[[], Place[Any]],
    *,
    say: Callable[[str], None],
) -> Iterator[Outcome]:
    """Run `jobs` at the place that `make` gives, and yield what became of each, in the order in which they end.

    Raises `UserError` at once for a config that contradicts its data, and `Preempted` when a signal came.
    """
    if not jobs:
        return iter(())
    place = make()  # before JAX starts here, whose threads do not outlive a fork
    try:
        backend.keep_to_cpu()  # the chips are for the runs
        work.check(jobs)
    except BaseException:
        place.close()
        raise
    return _outcomes(jobs, resources, place, say)


def _outcomes(
    jobs: Sequence[Job], resources: Resources, place: Place[Any], say: Callable[[str], None]
) -> Iterator[Outcome]:
    with contextlib.closing(place), preemption.asked_to_stop() as asked:
        yield from _Dispatch(resources, place, say, asked).run(jobs)


class _Dispatch(Generic[Handle]):
    """The tasks of one sweep that have not ended yet."""

    def __init__(
        self, resources: Resources, place: Place[Handle], say: Callable[[str], None], asked: threading.Event
    ) -> None:
        self.resources, self.place, self.say, self.asked = resources, place, say, asked
        self.open: dict[Handle, Task] = {}
        self.progress: dict[Handle, _Progress] = {}
        self.tries: Counter[str] = Counter()

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        self._submit([Task(tuple(together)) for together in values.together(jobs)])
        while self.open:
            if self.asked.is_set():
                raise Preempted("preempted: what was running is saved; the same command continues")
            for handle, task in list(self.open.items()):
                state = self.place.poll(handle)
                if state == "ended":
                    del self.open[handle]
                    yield from self._ended(handle, task)
                elif state == "waiting":  # for the first time, or again: that is no hanging
                    self.progress.pop(handle, None)
                elif self._hangs(handle, task):
                    self.place.cancel(handle)
                    del self.open[handle]
                    yield from self._died(task, Died(f"no step for {self.resources.stall:g} s"))
            self.asked.wait(self.place.interval)

    def _submit(self, tasks: Sequence[Task]) -> None:
        self.open |= dict(zip(self.place.submit(tasks), tasks, strict=True))

    def _hangs(self, handle: Handle, task: Task) -> bool:
        if handle not in self.progress:
            self.progress[handle] = _Progress(task, self.resources.stall)
        return self.progress[handle].hangs()

    def _ended(self, handle: Handle, task: Task) -> Iterator[Outcome]:
        try:
            found = self.place.collect(handle)
        except Preempted as stopped:
            if self.asked.is_set():
                raise
            yield from self._died(task, Died(f"it was told to stop ({stopped})"))  # it alone: the sweep goes on
            return
        except Died as death:
            yield from self._died(task, death)
            return
        for job in task.jobs:
            status, reason = found[job.id]
            summary = record.read_json(job.folder / record.SUMMARY) if status == "finished" else {}
            yield Outcome(job, status, summary, reason)

    def _died(self, task: Task, death: Died) -> Iterator[Outcome]:
        """Try again what a dead process has left, or say that it failed."""
        left = []
        for job in task.jobs:
            if store.state(job.folder) == "finished":
                yield Outcome(job, "finished", record.read_json(job.folder / record.SUMMARY))
            else:
                left.append(job)
        if not left:
            return
        first = left[0].id
        self.tries[first] += 1
        if self.tries[first] <= self.resources.retries:
            self.say(f"{task.label}: {death}; trying again ({self.tries[first]} of {self.resources.retries})")
            self._submit([Task(tuple(left))])
            return
        for job in left:
            reason = f"{death}, {self.tries[first]} times" if self.tries[first] > 1 else str(death)
            yield Outcome(job, "failed", reason=work.failed(job, reason, log=death.log))
