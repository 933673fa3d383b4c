"""The local executor: all runs in this process, so that those of one shape share their programs and their data."""

import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from research.config import Config, replace, to_json
from research.errors import Preempted, RunFailed, UserError
from research.sweeps.study import Group, Job, Outcome
from research.training import record


def execute(jobs: Sequence[Job], *, workers: int | None = None, progress: bool = False) -> Iterator[Outcome]:
    """Train the jobs, those of one shape after the other, and yield what became of each.

    Jobs of a group train in one step, the others `workers` at a time in threads; None: as many as a short trial finds
    fastest, one run at a time on accelerators. A failing run does not stop the others. `progress` shows the live
    display of runs that train by themselves. Raises `UserError` at once (a config that contradicts its data or this
    machine), and `Preempted` when a signal came: the state is saved and the same command continues.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}; expected at least 1")
    from research.training import resolve

    resolved = {config: resolve.resolve(config) for config in dict.fromkeys(_unseeded(job) for job in jobs)}
    several = max((len(one.layout.devices) for one in resolved.values()), default=1)
    if workers is not None and workers > 1 and several > 1:  # threads could enter their collectives in different orders
        raise UserError(f"workers is {workers}, of runs on {several} devices; expected 1, or parallelism.devices 1")
    shapes: dict[Any, list[Job]] = {}
    for job in jobs:
        shapes.setdefault(resolved[_unseeded(job)].signature, []).append(job)
    return _outcomes(list(shapes.values()), resolved, workers, progress)


def _outcomes(
    shapes: Sequence[Sequence[Job]], resolved: dict[Config, Any], workers: int | None, progress: bool
) -> Iterator[Outcome]:
    import jax

    for number, jobs in enumerate(shapes):
        if number:
            jax.clear_caches()  # what was traced for shapes that are done with would pile up in memory
        for group in dict.fromkeys(job.group for job in jobs if job.group):
            yield from _together(group, [job for job in jobs if job.group == group], progress)
        alone = [job for job in jobs if job.group is None]
        count = min(_at_once(alone, resolved) if workers is None else workers, len(alone))
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
    from research import training

    return lambda: training.train(job.config, job.folder, display=progress)


def _in_threads(jobs: Sequence[Job], count: int) -> Iterator[Outcome]:
    """`count` runs at a time, each in a thread of this process: they share its programs, its data and its signals."""
    from research.training import loop, preemption

    def one(job: Job, asked: threading.Event) -> Outcome:
        if asked.is_set():
            raise Preempted("preempted before it began; the same command continues")
        return _outcome(job, lambda: loop.train(job.config, job.folder, display=False, asked=asked, at_once=count))

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

    wanted = {job.id: job for job in jobs}
    members = [population.Member(id_, config, folder, id_ in wanted) for id_, config, folder in group.runs]
    try:
        summaries = population.train(members, group.folder, display=progress)
    except Preempted:
        raise
    except Exception as error:
        return [_outcome(wanted[member.id], _raising(error)) for member in members if member.recorded]
    recorded = [wanted[member.id] for member in members if member.recorded]
    return [
        Outcome(job, summary["status"], summary, reason=summary.get("reason", ""))
        for job, summary in zip(recorded, summaries, strict=True)
    ]


def _raising(error: Exception) -> Callable[[], Any]:
    def again() -> Any:
        raise error

    return again


def _outcome(job: Job, train: Callable[[], Any]) -> Outcome:
    try:
        summary = train()
    except Preempted:
        raise
    except (RunFailed, UserError) as error:
        return Outcome(job, "failed", reason=str(error))
    except Exception as error:  # a bug or a full disk: shown in full, recorded, and the others still run
        traceback.print_exc(file=sys.stderr)
        return Outcome(job, "failed", reason=_recorded(job, error))
    return Outcome(job, summary["status"], summary)


def _unseeded(job: Job) -> Config:
    """The config without its seed: what decides shapes and validity."""
    return replace(job.config, seed=0)


def _recorded(job: Job, error: Exception) -> str:
    """Write the records of a run that died before it could; returns the reason in one line."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    if not (job.folder / record.CONFIG).exists():
        record.write_text(job.folder / record.CONFIG, to_json(job.config))
    record.write_json(job.folder / record.SUMMARY, {"status": "failed", "reason": reason})
    return reason
