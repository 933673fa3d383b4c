"""The local executor: runs one after another in this process."""

import sys
import traceback
from collections.abc import Iterator, Sequence

from research.config import Config, replace, to_json
from research.errors import Preempted, RunFailed, UserError
from research.sweeps.study import Job, Outcome
from research.training import record


def execute(jobs: Sequence[Job], *, workers: int = 1, progress: bool = False) -> Iterator[Outcome]:
    """Train each job in turn and yield what became of it; a failing run does not stop the ones after it.

    `progress` shows the live display of each run. Raises `UserError` at once (more than one worker, a config that
    contradicts its data or this machine), and `Preempted` when a signal came: the state is saved and the same command
    continues.
    """
    if workers != 1:
        raise UserError(f"workers is {workers}; the local executor trains one run at a time, expected 1")
    from research.training import resolve

    for config in dict.fromkeys(_unseeded(job) for job in jobs):
        resolve.resolve(config)
    return _outcomes(jobs, progress)


def _outcomes(jobs: Sequence[Job], progress: bool) -> Iterator[Outcome]:
    import jax

    from research import training

    previous: Config | None = None
    for job in jobs:
        if previous is not None and previous != _unseeded(job):
            jax.clear_caches()  # programs of shapes that are done with would pile up in memory
        previous = _unseeded(job)
        try:
            summary = training.train(job.config, job.folder, display=progress)
        except Preempted:
            raise
        except (RunFailed, UserError) as error:
            yield Outcome(job, "failed", reason=str(error))
        except Exception as error:  # a bug or a full disk: shown in full, recorded, and the others still run
            traceback.print_exc(file=sys.stderr)
            yield Outcome(job, "failed", reason=_recorded(job, error))
        else:
            yield Outcome(job, summary["status"], summary)


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
