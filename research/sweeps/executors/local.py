"""The local executor: all runs in this process, so that they share programs and data; or a pool of worker processes.

Workers are for machines with several GPUs or TPU chips, one set to each, and for many cores. Each is started once, with
its cores and chips for its own, and given one task after the other, those of one shape to the same worker. Our own
processes and not a library's pool: those start again as a whole when one worker dies, or can give a worker neither
environment nor cores before it imports JAX.
"""

import contextlib
import importlib.util
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from etils import epath

from research import backend, storage
from research.config import digest, replace
from research.errors import Preempted, UserError
from research.scratch import Scratch
from research.sweeps import dispatch, work
from research.sweeps import jobs as values
from research.sweeps.dispatch import Died, Task
from research.sweeps.jobs import Job, Outcome, Resources

ROOT = Path(__file__).resolve().parents[3]
# Tasks of one worker: another follows it. Libraries keep some 30 kB of every run (tensorstore, 3 kB of them each time
# that Orbax asks for its metrics), which in a sweep of tens of thousands would be gigabytes.
MOST = 1000
GRACE = 60.0  # seconds in which a worker that is asked to stop may save what it is at


def execute(
    jobs: Sequence[Job],
    resources: Resources,
    *,
    workdir: epath.Path,
    progress: bool,
    say: Callable[[str], None],
) -> Iterator[Outcome]:
    """Train the jobs in this process, or with `resources.workers` in so many workers (`executors.Execute`)."""
    if resources.workers is None:
        if resources.cpus is not None or resources.chips is not None:
            raise UserError("cpus and chips are of each worker; expected --workers N with them")
        return work.here(jobs, threads=resources.threads, progress=progress)
    if resources.threads is not None:
        raise UserError("threads are of this process, and workers are others; expected one of the two")
    slots = shares(resources)
    return dispatch.outcomes(
        jobs, resources, lambda: Pool(slots[: len(values.together(jobs))], workdir / "logs"), say=say
    )


@dataclass(frozen=True)
class Slot:
    """The part of this machine that one worker has to itself."""

    cores: tuple[int, ...]
    environment: tuple[tuple[str, str], ...] = ()


def shares(resources: Resources) -> list[Slot]:
    """The parts of this machine for `resources.workers` workers. Raises `UserError` where it has less."""
    workers, cores, chips = resources.workers or 1, _cores(), _chips()
    each = resources.cpus or max(1, len(cores) // workers)
    if resources.cpus is not None and workers * each > len(cores):
        raise UserError(f"{workers} workers with {each} cores each; this machine has {len(cores)}")
    per = resources.chips
    if per is None:
        per = max(1, len(chips) // workers) if chips else 0
    if workers * per > len(chips):
        raise UserError(f"{workers} workers with {per} chips each; this machine has {len(chips)}")
    return [
        Slot(
            tuple(cores[(index * each + at) % len(cores)] for at in range(each)),
            _seeing(chips[index * per : (index + 1) * per]),
        )
        for index in range(workers)
    ]


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _chips() -> list[tuple[str, str]]:
    """GPUs or TPU chips as (`gpu` or `tpu`, its number), found without starting JAX here: that would take them all."""
    if os.environ.get("JAX_PLATFORMS", "") == "cpu":
        return []
    if importlib.util.find_spec("libtpu"):
        accelerators = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]
        return [("tpu", str(number)) for number in range(len(accelerators))]
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [("gpu", number) for number in visible.split(",") if number and number != "-1"]
    return [("gpu", str(number)) for number, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def _seeing(chips: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The environment in which JAX sees these chips alone."""
    numbers = ",".join(number for _, number in chips)
    if not chips:
        return (("JAX_PLATFORMS", "cpu"),)
    if chips[0][0] == "gpu":
        return (("CUDA_VISIBLE_DEVICES", numbers),)
    bounds = f"1,{len(chips)},1"
    return (
        ("TPU_VISIBLE_DEVICES", numbers),
        ("TPU_CHIPS_PER_PROCESS_BOUNDS", bounds),
        ("TPU_PROCESS_BOUNDS", "1,1,1"),
    )


class _Worker:
    """One worker process: what it was given, and what it says."""

    def __init__(self, slot: Slot, log: Path) -> None:
        self.slot, self.log = slot, log
        self.shape, self.at = "", 0  # of its last task; where the log of its present one begins
        self.given = 0  # tasks
        self.said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._file = log.open("ab")
        # Cores are inherited from the thread that starts a process, so JAX finds no others when it starts there.
        before = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
        try:
            if before is not None:
                os.sched_setaffinity(0, slot.cores)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "research.sweeps.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._file,
                env={**backend.environment(), **dict(slot.environment), "PYTHONPATH": _path()},
                start_new_session=True,  # a control-C at the keyboard is for whoever launched it, who then says so here
                text=True,
            )
        finally:
            if before is not None:
                os.sched_setaffinity(0, before)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.put(json.loads(line))
        self.said.put(None)

    def give(self, task: Task) -> None:
        """Hand it a task; of one that is gone, `said` tells."""
        assert self.process.stdin is not None
        self.at = self.log.stat().st_size
        self.given += 1
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(task.encoded) + "\n")
            self.process.stdin.flush()

    def last_lines(self) -> str:
        """What it wrote to its log since its present task began: the end of it."""
        with self.log.open("rb") as file:
            file.seek(max(self.at, self.log.stat().st_size - 20_000))
            return dispatch.last_lines(file.read())

    def ask_to_stop(self) -> None:
        """Let it save what it is at, and end."""
        with contextlib.suppress(OSError):
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and all that it started."""
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout, self._file):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _path() -> str:
    """Where the worker finds this code: it runs in the folder of whoever launched the sweep."""
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), *([given] if given else [])])


class Pool:
    """Workers of this machine as a `dispatch.Place`."""

    interval = 0.05

    def __init__(self, slots: Sequence[Slot], logs: epath.Path) -> None:
        self._slots, self._kept = list(slots), logs
        self._open = contextlib.ExitStack()
        self._logs = Path(logs)
        if storage.is_remote(logs):  # which a worker cannot write to line by line
            self._scratch = Scratch()  # goes with who holds it
            self._open.callback(self._scratch.remove)
            self._logs = self._scratch.path
        self._workers: dict[int, _Worker] = {}  # by slot
        self._doing: dict[int, int] = {}  # slot -> handle
        self._waiting: dict[int, Task] = {}
        self._shapes: dict[int, str] = {}
        self._found: dict[int, dict[str, tuple[values.Status, str]]] = {}
        self._ended: dict[int, Died | Preempted | None] = {}
        self._count = 0

    def submit(self, tasks: Sequence[Task]) -> list[int]:
        """See `dispatch.Place`."""
        handles = list(range(self._count, self._count + len(tasks)))
        self._waiting |= dict(zip(handles, tasks, strict=True))
        self._shapes |= {handle: _shape(task) for handle, task in zip(handles, tasks, strict=True)}
        self._count += len(tasks)
        return handles

    def poll(self, handle: int) -> Literal["waiting", "running", "ended"]:
        """See `dispatch.Place`."""
        self._listen()
        self._assign()
        if handle in self._ended:
            return "ended"
        return "waiting" if handle in self._waiting else "running"

    def collect(self, handle: int) -> Mapping[str, tuple[values.Status, str]]:
        """See `dispatch.Place`."""
        if (error := self._ended.pop(handle)) is not None:
            raise error
        return self._found.pop(handle)

    def cancel(self, handle: int) -> None:
        """See `dispatch.Place`."""
        self._waiting.pop(handle, None)
        for slot, doing in list(self._doing.items()):
            if doing == handle:
                self._workers.pop(slot).kill()
                del self._doing[slot]

    def close(self) -> None:
        """See `dispatch.Place`."""
        self._waiting.clear()
        for worker in self._workers.values():
            worker.ask_to_stop()
        deadline = time.monotonic() + GRACE
        for worker in self._workers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            worker.kill()
        self._workers.clear()
        self._doing.clear()
        with self._open:
            if storage.is_remote(self._kept):  # below a name of this pool's own: nothing is appended to there
                for log in self._logs.iterdir():
                    storage.upload(log, self._kept / self._logs.name / log.name)

    def _listen(self) -> None:
        """Hear what the workers have said."""
        for slot, worker in list(self._workers.items()):
            with contextlib.suppress(queue.Empty):
                while True:
                    said = worker.said.get_nowait()
                    if said is None:
                        self._gone(slot)
                        break
                    if (handle := self._doing.get(slot)) is None:
                        continue
                    self._found[handle] = {id_: (status, reason) for id_, status, reason in said["outcomes"]}
                    self._ended[handle] = Preempted(said["preempted"]) if said["preempted"] else None
                    del self._doing[slot]

    def _gone(self, slot: int) -> None:
        """A worker has ended by itself; the next task of its slot starts another."""
        worker = self._workers.pop(slot)
        worker.kill()
        code = worker.process.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if (handle := self._doing.pop(slot, None)) is not None:
            self._ended[handle] = Died(f"its worker died ({how})", worker.last_lines())

    def _assign(self) -> None:
        """Give every worker that has nothing to do a task."""
        for index, slot in enumerate(self._slots):
            if not self._waiting:
                return
            if index in self._doing:
                continue
            worker = self._workers.get(index)
            if worker is None or worker.given == MOST:
                if worker is not None:
                    worker.kill()
                self._logs.mkdir(parents=True, exist_ok=True)
                worker = self._workers[index] = _Worker(slot, self._logs / f"worker-{index}.log")
            handle = self._next(worker)
            task = self._waiting.pop(handle)
            worker.shape = self._shapes.pop(handle)
            self._doing[index] = handle
            worker.give(task)

    def _next(self, worker: _Worker) -> int:
        """The first task that has the programs of the worker's last, or that no other has; else the first."""
        others = {other.shape for other in self._workers.values() if other is not worker}
        same = (handle for handle in self._waiting if self._shapes[handle] == worker.shape)
        fresh = (handle for handle in self._waiting if self._shapes[handle] not in others)
        return next(same, next(fresh, next(iter(self._waiting))))


def _shape(task: Task) -> str:
    """Equal for most tasks that share their programs."""
    job = task.jobs[0]
    number = {"seed": 0, "optimizer.learning_rate": 1.0, "optimizer.weight_decay": 0.0}
    return digest(replace(job.config, **number))
