"""The Ray executor: runs as tasks of a Ray cluster, one that is there (`address`) or one started for the sweep.

Ray decides which node has room, and starts workers, which it uses again. Results are the records in the workdir, which
every node must see; nothing but what became of a run goes through Ray.
"""

import contextlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from etils import epath

from research import backend, storage
from research.errors import Preempted, UserError
from research.sweeps import dispatch
from research.sweeps import jobs as values
from research.sweeps.dispatch import Died, Task
from research.sweeps.jobs import Job, Outcome, Resources
from research.training import lease

GRACE = 60.0  # seconds in which what is running may save its state when the sweep is stopped


def execute(
    jobs: Sequence[Job],
    resources: Resources,
    *,
    workdir: epath.Path,
    progress: bool,
    say: Callable[[str], None],
) -> Iterator[Outcome]:
    """Train the jobs as tasks of Ray's, `resources.workers` at a time (`executors.Execute`)."""
    if importlib.util.find_spec("ray") is None:
        raise UserError("the executor ray needs Ray; install the extra `ray`")
    logs = None if storage.is_remote(workdir) else Path(workdir).resolve() / "logs" / "ray"
    return dispatch.outcomes(jobs, resources, lambda: Cluster(resources, logs), say=say)


def library() -> Any:
    """The module `ray`, which takes a second to import."""
    import ray

    return ray


def connect(address: str | None) -> None:
    """Join the cluster at `address`, or start one on this machine alone, on loopback, that ends with this process.

    Raises `UserError` where there is none.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = library()
    if ray.is_initialized():
        return
    own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address in (None, "local") else {}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, ValueError) as error:
        raise UserError(f"no Ray cluster at {address!r}: {' '.join(str(error).split())}") from error


def accelerators(chips: int | None) -> dict[str, float]:
    """So many GPUs or TPU chips by the name that the cluster has for them; none: as it has none."""
    if not chips:
        return {}
    return {"TPU" if library().cluster_resources().get("TPU") else "GPU": float(chips)}


def options(cpus: int | None, chips: int | None) -> dict[str, Any]:
    """What Ray is told that a task or an actor needs."""
    found = accelerators(chips)
    named: dict[str, Any] = {"num_gpus": found["GPU"]} if "GPU" in found else {"resources": found} if found else {}
    return {"num_cpus": cpus or 1, **named}


class Cluster:
    """Tasks of Ray's as a `dispatch.Place`."""

    interval = 0.2

    def __init__(self, resources: Resources, logs: Path | None) -> None:
        connect(resources.address)
        self._logs, self._count = logs, 0
        self._most = resources.workers
        self._perform = library().remote(max_retries=0, **options(resources.cpus, resources.chips))(perform)
        self._waiting: dict[int, Task] = {}
        self._running: dict[int, Any] = {}  # references to what Ray has
        self._tasks: dict[int, Task] = {}

    def submit(self, tasks: Sequence[Task]) -> list[int]:
        """See `dispatch.Place`."""
        handles = list(range(self._count, self._count + len(tasks)))
        self._count += len(tasks)
        self._waiting |= dict(zip(handles, tasks, strict=True))
        self._tasks |= self._waiting
        self._hand_over()
        return handles

    def _hand_over(self) -> None:
        """Give Ray as many tasks as are to run at a time; all of them where nothing was said."""
        for handle in list(self._waiting):
            if self._most is not None and len(self._running) >= self._most:
                return
            log = "" if self._logs is None else str(self._logs / f"task-{handle}.log")
            self._running[handle] = self._perform.remote(self._waiting.pop(handle).encoded, log, os.getcwd())

    def poll(self, handle: int) -> Literal["waiting", "running", "ended"]:
        """See `dispatch.Place`."""
        ray = library()

        self._hand_over()
        if handle in self._waiting:
            return "waiting"
        ready, _ = ray.wait([self._running[handle]], timeout=0)
        if ready:
            return "ended"
        begun = any(lease.progress(job.folder).token > job.token for job in self._tasks[handle].jobs)
        return "running" if begun else "waiting"

    def collect(self, handle: int) -> Mapping[str, tuple[values.Status, str]]:
        """See `dispatch.Place`."""
        ray = library()

        self._tasks.pop(handle)
        try:
            found = ray.get(self._running.pop(handle))
        except ray.exceptions.RayError as error:
            raise Died(f"its Ray worker died ({type(error).__name__})", self._last_lines(handle)) from error
        if found["preempted"]:
            raise Preempted(found["preempted"])
        return {id_: (status, reason) for id_, status, reason in found["outcomes"]}

    def cancel(self, handle: int) -> None:
        """See `dispatch.Place`."""
        ray = library()

        self._waiting.pop(handle, None)
        self._tasks.pop(handle)
        if (reference := self._running.pop(handle, None)) is not None:
            ray.cancel(reference, force=True)

    def close(self) -> None:
        """See `dispatch.Place`."""
        ray = library()

        self._waiting.clear()
        for reference in self._running.values():
            ray.cancel(reference)  # as a control-C there, which a run answers by saving its state
        deadline = time.monotonic() + GRACE
        for reference in self._running.values():
            ready, _ = ray.wait([reference], timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                ray.cancel(reference, force=True)
        self._running.clear()
        ray.shutdown()

    def _last_lines(self, handle: int) -> str:
        with contextlib.suppress(OSError, TypeError):
            return dispatch.last_lines((self._logs / f"task-{handle}.log").read_bytes())  # type: ignore[operator]
        return ""


def perform(task: dict[str, Any], log: str, folder: str) -> dict[str, Any]:
    """Train a task in a worker of Ray's (`worker.perform`), from `folder`, with what it writes in the file `log`."""
    from research.sweeps import worker

    with contextlib.suppress(OSError):  # of a node that does not have it: only paths of users' files need it
        os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    backend.set_up()
    with _into(log):
        try:
            return worker.perform(task)
        except KeyboardInterrupt:
            return {"outcomes": [], "preempted": "stopped before it began"}


@contextlib.contextmanager
def _into(log: str) -> Iterator[None]:
    """What this process writes goes to a file meanwhile."""
    if not log:
        yield
        return
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    kept = [os.dup(1), os.dup(2)]
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)
