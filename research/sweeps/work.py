"""What one process does of a sweep: it trains jobs, those of one shape one after the other, which share programs."""

import contextlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Literal

from research import storage
from research.config import Config, replace, to_json
from research.errors import Preempted, RunFailed, UserError
from research.sweeps import store
from research.sweeps.jobs import Group, Job, Outcome
from research.training import lease, record, tracking
from research.training.tracking import Tracking


def here(jobs: Sequence[Job], *, threads: int | None = None, progress: bool = False) -> Iterator[Outcome]:
    """Train the jobs in this process and yield what became of each.

    Jobs of a group train in one step, the others `threads` at a time; None: as many as a short trial finds fastest, one
    at a time on accelerators. A failing run does not stop the others, and one that another process holds is left to it.
    `progress` shows the live display of runs that train by themselves. Raises `UserError` at once (a config that
    contradicts its data or this machine), and `Preempted` when a signal came: the state is saved and the same command
    continues.
    """
    from research.training import resolve

    resolved = {config: resolve.resolve(config) for config in dict.fromkeys(_unseeded(job) for job in jobs)}
    several = max((len(one.layout.devices) for one in resolved.values()), default=1)
    if threads is not None and threads > 1 and several > 1:  # threads could enter their collectives in different orders
        raise UserError(f"threads is {threads}, of runs on {several} devices; expected 1, or parallelism.devices 1")
    shapes: dict[Any, list[Job]] = {}
    for job in jobs:
        shapes.setdefault(resolved[_unseeded(job)].signature, []).append(job)
    return _told(_outcomes(list(shapes.values()), resolved, threads, progress))


def _told(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """The same; in the end, whatever it is, who follows the runs has been told everything."""
    try:
        yield from outcomes
    finally:
        tracking.drain()


def check(jobs: Sequence[Job]) -> None:
    """Look at every config as a process will that trains it elsewhere. Raises `UserError`: what contradicts its data.

    How many devices there are is not looked at: those of this machine's CPU stand for them.
    """
    import jax

    from research.training import resolve

    for config in dict.fromkeys(_unseeded(job) for job in jobs):
        resolve.resolve(config, devices=jax.devices("cpu") * (config.parallelism.devices or 1))


def _outcomes(
    shapes: Sequence[Sequence[Job]], resolved: dict[Config, Any], threads: int | None, progress: bool
) -> Iterator[Outcome]:
    import jax

    for number, jobs in enumerate(shapes):
        if number:
            jax.clear_caches()  # what was traced for shapes that are done with would pile up in memory
        for group in dict.fromkeys(job.group for job in jobs if job.group):
            yield from _together(group, [job for job in jobs if job.group == group], progress)
        alone = [job for job in jobs if job.group is None]
        count = min(_at_once(alone, resolved) if threads is None else threads, len(alone))
        if count > 1:
            yield from _in_threads(alone, count)
        else:
            for job in alone:
                yield _outcome(job, _trained(job, progress))


def _at_once(jobs: Sequence[Job], resolved: dict[Config, Any]) -> int:
    """How many of these runs to train at a time: measured where they are long enough for it to matter."""
    from research.training import trial

    if not jobs:
        return 1
    try:
        return trial.at_once(resolved[_unseeded(jobs[0])], len(jobs))
    except (RunFailed, UserError):  # the run itself will say so
        return 1


def _trained(job: Job, progress: bool) -> Callable[[], Any]:
    from research.training import loop

    return lambda: loop.train(job.config, job.folder, display=progress, patient=False, tracking=job.tracking)


def _in_threads(jobs: Sequence[Job], count: int) -> Iterator[Outcome]:
    """`count` runs at a time, each in a thread of this process: they share its programs, its data and its signals."""
    from research.training import loop, preemption

    def one(job: Job, asked: threading.Event) -> Outcome:
        if asked.is_set():
            raise Preempted("preempted before it began; the same command continues")
        return _outcome(job, train(job, asked))

    def train(job: Job, asked: threading.Event) -> Callable[[], Any]:
        return lambda: loop.train(
            job.config,
            job.folder,
            display=False,
            asked=asked,
            at_once=count,
            patient=False,
            tracking=job.tracking,
        )

    with preemption.asked_to_stop() as asked, ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(one, job, asked) for job in jobs]
        preempted: list[Preempted] = []
        try:
            for future in as_completed(futures):
                try:
                    yield future.result()
                except Preempted as stopped:
                    preempted.append(stopped)
        finally:
            if not all(future.done() for future in futures):  # whoever asked for the outcomes has gone
                asked.set()
        if preempted:
            raise preempted[0]


def _together(group: Group, jobs: Sequence[Job], progress: bool) -> list[Outcome]:
    """The outcomes of the jobs of a group, in the order of its runs."""
    from research.training import population

    wanted = {job.id: job for job in jobs if ended(job) is None}
    others = [Outcome(job, "elsewhere") for job in jobs if job.id not in wanted]
    if not wanted:
        return others
    members = [
        population.Member(id_, config, folder, id_ in wanted, wanted[id_].tracking if id_ in wanted else Tracking())
        for id_, config, folder in group.runs
    ]
    recorded = [wanted[member.id] for member in members if member.recorded]
    try:
        summaries = population.train(members, group.folder, display=progress)
    except Preempted:
        raise
    except Exception as error:
        return others + [_outcome(job, _raising(error), begun=True) for job in recorded]
    return others + [
        Outcome(job, summary["status"], summary, reason=summary.get("reason", ""))
        for job, summary in zip(recorded, summaries, strict=True)
    ]


def _raising(error: Exception) -> Callable[[], Any]:
    def again() -> Any:
        raise error

    return again


def _outcome(job: Job, train: Callable[[], Any], *, begun: bool = False) -> Outcome:
    if not begun and ended(job) is not None:
        return Outcome(job, "elsewhere")
    try:
        summary = train()
    except Preempted:
        raise
    except (lease.InUse, lease.Lost):
        return Outcome(job, "elsewhere")
    except (RunFailed, UserError) as error:
        return Outcome(job, "failed", reason=str(error))
    except Exception as error:  # a bug: shown in full, recorded, and the others still run
        from research.training import disk

        if wrong := disk.trouble(error):
            return Outcome(job, "failed", reason=failed(job, f"{wrong}: {job.folder}; the same command continues"))
        traceback.print_exc(file=sys.stderr)
        return Outcome(job, "failed", reason=failed(job, " ".join(f"{type(error).__name__}: {error}".split())[:500]))
    return Outcome(job, summary["status"], summary)


def ended(job: Job) -> Literal["finished", "failed"] | None:
    """How a run has ended that another launch was at since this sweep began; None where it has not."""
    state = store.state(job.folder)
    if state == "failed" and lease.progress(job.folder).token > job.token:
        return "failed"
    return "finished" if state == "finished" else None


def _unseeded(job: Job) -> Config:
    """The config without its seed: what decides shapes and validity."""
    return replace(job.config, seed=0)


def failed(job: Job, reason: str, **more: Any) -> str:
    """Write the records of a run that died before it could, unless another process goes on with it; the reason.

    Where the disk does not take them, whoever asked for the outcome is told alone.
    """
    with contextlib.suppress(lease.InUse, OSError):
        held = lease.take(job.folder)
        try:
            if store.state(job.folder) != "finished":
                if storage.read(job.folder / record.CONFIG) is None:
                    storage.write(job.folder / record.CONFIG, to_json(job.config))
                record.write_json(job.folder / record.SUMMARY, {"status": "failed", "reason": reason, **more})
        finally:
            held.release()
    return reason
