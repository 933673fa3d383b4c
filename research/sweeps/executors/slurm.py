"""The Slurm executor: an array of jobs, submitted with submitit, one run or group to each.

Slurm decides where and when; the records are in the workdir, which every node must see. Before its time limit a job is
asked to stop: it saves its state, puts itself back into the queue, and goes on from there.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from etils import epath

from research import backend, storage
from research.errors import Preempted, RunFailed, UserError
from research.sweeps import dispatch
from research.sweeps import jobs as values
from research.sweeps.dispatch import Died, Task
from research.sweeps.jobs import Job, Outcome, Resources

NOTICE = 120  # seconds before its time limit at which a job is asked to stop
LATE = 10.0  # seconds that what a node has written may take to be seen here
AT_ONCE = 1000  # jobs of an array that may run at a time, where `workers` does not say


def execute(
    jobs: Sequence[Job],
    resources: Resources,
    *,
    workdir: epath.Path,
    progress: bool,
    say: Callable[[str], None],
) -> Iterator[Outcome]:
    """Train the jobs in an array of Slurm's, `resources.workers` at a time (`executors.Execute`)."""
    if importlib.util.find_spec("submitit") is None:
        raise UserError("the executor slurm needs submitit; install the extra `slurm`")
    for program in ("sbatch", "squeue", "scancel", "scontrol"):
        if shutil.which(program) is None:
            raise UserError(f"the executor slurm needs the program {program}; expected to be on a login node of Slurm")
    if storage.is_remote(workdir):
        raise UserError(f"--workdir is {workdir}; expected a folder that every node sees")
    folder = Path(workdir).resolve() / "logs" / "slurm"
    return dispatch.outcomes(jobs, resources, lambda: Array(resources, folder), say=say)


class Array:
    """Jobs of Slurm's as a `dispatch.Place`."""

    interval = 1.0

    def __init__(self, resources: Resources, folder: Path) -> None:
        import submitit

        self._executor = submitit.SlurmExecutor(folder=folder)
        asked = {"gpus_per_node": resources.chips, "cpus_per_task": resources.cpus, "partition": resources.partition}
        self._executor.update_parameters(
            job_name="convscale",
            time=resources.minutes,
            array_parallelism=resources.workers or AT_ONCE,
            signal_delay_s=min(NOTICE, resources.minutes * 20),
            additional_parameters={"requeue": True},
            **{name: value for name, value in asked.items() if value},
        )
        self._jobs: dict[str, Any] = {}
        self._states: dict[str, str] = {}
        self._looked = 0.0
        self._missed: dict[str, float] = {}  # when one was first found gone without a result

    def submit(self, tasks: Sequence[Task]) -> list[str]:
        """See `dispatch.Place`."""
        import submitit

        try:
            with self._executor.batch():
                jobs = [self._executor.submit(perform, task.encoded) for task in tasks]
        except submitit.core.utils.FailedJobError as error:
            raise RunFailed(f"Slurm takes no jobs: {' '.join(str(error).split())}") from error
        self._jobs |= {job.job_id: job for job in jobs}
        self._looked = 0.0
        return [job.job_id for job in jobs]

    def poll(self, handle: str) -> Literal["waiting", "running", "ended"]:
        """See `dispatch.Place`."""
        if self._jobs[handle].paths.result_pickle.exists():
            return "ended"
        self._look()
        if (state := self._states.get(handle)) is not None:
            self._missed.pop(handle, None)
            return "running" if state in ("RUNNING", "COMPLETING") else "waiting"
        since = self._missed.setdefault(handle, time.monotonic())
        return "ended" if time.monotonic() - since > LATE else "waiting"

    def collect(self, handle: str) -> Mapping[str, tuple[values.Status, str]]:
        """See `dispatch.Place`."""
        job = self._jobs.pop(handle)
        if not job.paths.result_pickle.exists():
            raise Died("its Slurm job ended without a word", _last_lines(job.paths.stderr))
        how, found = _result(job)
        if how != "success":
            raise Died("its Slurm job failed", _last_lines(job.paths.stderr) or str(found))
        if found["preempted"]:
            raise Preempted(found["preempted"])
        return {id_: (status, reason) for id_, status, reason in found["outcomes"]}

    def cancel(self, handle: str) -> None:
        """See `dispatch.Place`."""
        _run("scancel", "--signal=KILL", "--full", handle)
        _run("scancel", handle)
        self._jobs.pop(handle)

    def close(self) -> None:
        """See `dispatch.Place`."""
        if not self._jobs:
            return
        _run("scancel", *self._jobs)  # asks each to stop, and ends it half a minute later
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            self._looked = 0.0
            self._look()
            if not self._states.keys() & self._jobs.keys():
                return
            time.sleep(self.interval)

    def _look(self) -> None:
        """Ask for the states of all, at most once in a while."""
        now = time.monotonic()
        if self._looked and now - self._looked < self.interval:
            return
        arrays = sorted({handle.partition("_")[0] for handle in self._jobs})
        done = _run("squeue", "--noheader", "--array", "--format=%i %T", "--jobs", ",".join(arrays))
        if done.returncode == 0:
            self._states = dict(line.split() for line in done.stdout.splitlines())
        elif "Invalid job id" in done.stderr:  # it has forgotten all of them
            self._states = {}
        else:  # its controller does not answer, which says nothing about the jobs
            self._states = dict.fromkeys(self._jobs, "UNKNOWN")
        self._looked = time.monotonic()


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    """A program of Slurm's."""
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def _result(job: Any) -> tuple[str, Any]:
    """What the job's own process has left: written by `perform` on a node, in a folder of this user's."""
    import submitit

    found: tuple[str, Any] = submitit.core.utils.pickle_load(job.paths.result_pickle)
    return found


def _last_lines(file: Path) -> str:
    if not file.exists():
        return ""
    return dispatch.last_lines(file.read_bytes())


def perform(task: dict[str, Any]) -> dict[str, Any]:
    """Train a task in a job of Slurm's (`worker.perform`); back into the queue where its time is up."""
    from research.sweeps import worker

    is_late = False

    def late(number: int, frame: FrameType | None) -> None:
        nonlocal is_late
        is_late = True
        os.kill(os.getpid(), signal.SIGTERM)  # which a run answers by saving its state

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, late)
    backend.set_up()
    done = worker.perform(task)
    if done["preempted"] and is_late:
        number = os.environ["SLURM_JOB_ID"]
        if "SLURM_ARRAY_JOB_ID" in os.environ:
            number = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        print(f"{done['preempted']}; time is up: back into the queue", file=sys.stderr, flush=True)
        subprocess.run(["scontrol", "requeue", number], check=True, timeout=60)
        time.sleep(3600)  # Slurm ends this process
    return done
