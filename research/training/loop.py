"""The loop: the one impure place where a run happens, whatever its task.

    config -> resolve -> compile -> [step, log, evaluate, save]* -> summary

A run continues where its folder left off: the state comes back from the newest sound checkpoint, the records written
beyond it are dropped, and the rest is computed again to the same bits.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import jax
import numpy as np
from etils import epath

from research import config as configs
from research import storage
from research.config import Config
from research.errors import Preempted, RunFailed, UserError
from research.scaling import complexity
from research.sweeps import identity
from research.training import (
    disk,
    lease,
    mending,
    overlays,
    parallel,
    preemption,
    processes,
    programs,
    record,
    resolve,
    sharing,
    state,
    step,
)
from research.training.checkpoint import Checkpoints
from research.training.display import Display
from research.training.evaluation import Evaluation
from research.training.journal import Ended, Journal
from research.training.probing import Probing
from research.training.record import CONFIG
from research.training.resolve import Resolved, build_model
from research.training.tracking import Tracking

PyTree = Any
IN_FLIGHT = 2  # steps dispatched ahead of the one being waited for: keeps the device busy and a signal's answer quick


def check_folder(cfg: Config, workdir: epath.PathLike) -> dict[str, Any] | None:
    """The summary of `workdir` if this very run is finished there, else None.

    A damaged record makes it unfinished (`mending`). Raises `UserError` when the folder holds a run of another config,
    naming the keys that differ.
    """
    folder = record.check_workdir(workdir)
    mending.mend_own(folder, cfg)
    summary = record.read_summary(folder)
    if storage.read(folder / CONFIG) is not None:
        different = configs.differences(mending.there(folder), cfg)
        if different:
            shown = ", ".join(f"{key} ({old} there, {new} now)" for key, (old, new) in different.items())
            raise UserError(f"workdir {str(workdir)!r} holds a run of another config: {shown}; expected a new folder")
    elif summary is not None:
        raise UserError(f"workdir {str(workdir)!r} holds a summary without a config; expected a new folder")
    return summary if summary is not None and summary["status"] == "finished" else None


def train(
    cfg: Config,
    workdir: epath.PathLike,
    *,
    display: bool = True,
    asked: threading.Event | None = None,
    at_once: int = 1,
    patient: bool = True,
    tracking: Tracking = Tracking(),
) -> dict[str, Any]:
    """Train `cfg` in `workdir` to its end, from where the folder left off; returns the summary.

    `asked`: set when the run is to stop, by default by a signal; `at_once`: how many runs this process trains at a
    time; `patient`: whether to wait where the folder's last holder may be dead (`lease.take`); `tracking`: who follows
    it (`tracking.drain` waits until they know everything). A finished folder is left as it is. Raises `UserError`
    before anything is compiled (`lease.InUse` where another process trains there); `RunFailed` when the loss is no
    longer finite, the disk is full or an image cannot be read (the summary then says `failed`); `Preempted` after a
    SIGTERM or SIGINT (state is saved).
    """
    _check_alike(cfg, workdir)
    finished = processes.from_first(lambda: check_folder(cfg, workdir))
    if finished is not None:
        if display and processes.is_first():
            Display(0).say(f"{workdir} is finished (step {finished['step']}); nothing to do")
        return finished
    resolved = processes.everywhere(lambda: resolve.resolve(cfg))
    stopping = preemption.asked_to_stop() if asked is None else contextlib.nullcontext(asked)
    with stopping as asked, resolve.matmul_precision(cfg):
        return _Run(resolved, epath.Path(workdir), asked, display, at_once, patient, tracking).run()


def _check_alike(cfg: Config, workdir: epath.PathLike) -> None:
    """Raise `UserError` where processes that train together were given other words, or run other code."""
    if processes.count() == 1:
        return
    said = processes.of_each([configs.to_dict(cfg), identity.code_digest(cfg)])
    for number, (theirs, code) in enumerate(said):
        if different := configs.differences(configs.from_dict(said[0][0]), configs.from_dict(theirs)):
            raise UserError(f"process {number} has another config than process 0: {', '.join(different)} differ")
        if code != said[0][1]:
            raise UserError(f"process {number} runs other code than process 0; expected the same on every host")


def cost(resolved: Resolved) -> complexity.Cost:
    """The exact cost of the network for one example."""

    def count() -> complexity.Cost:
        model = build_model(resolved.config, num_classes=resolved.task.num_outputs)
        return complexity.count(model, (1, *resolved.info.shape))

    return sharing.once(("cost", resolved.signature), count)


class _Run:
    """One run in one process: what the loop carries from step to step."""

    def __init__(
        self,
        resolved: Resolved,
        workdir: epath.Path,
        asked: threading.Event,
        display: bool,
        at_once: int,
        patient: bool,
        tracking: Tracking,
    ) -> None:
        self.resolved, self.workdir, self.asked, self.at_once = resolved, workdir, asked, at_once
        self.cfg, self.layout = resolved.config, resolved.layout
        self.show, self.patient, self.tracking = display and processes.is_first(), patient, tracking
        self.flags: deque[jax.Array] = deque()  # of the last steps: whether any process was asked to stop

    def run(self) -> dict[str, Any]:
        """Prepare, loop, and write the summary whatever the end."""
        with ThreadPoolExecutor(1) as reader:  # decompressing and tracing go side by side
            pipeline = reader.submit(programs.pipeline_of, self.resolved)
            self.journal = Journal(self.resolved, self.workdir, cost(self.resolved), tracking=self.tracking)
            self.pipeline = processes.everywhere(pipeline.result)
        finished = self.journal.claim(patient=self.patient)  # nothing is written before its data could be read
        if finished is not None:
            return finished
        with contextlib.ExitStack() as open_:
            open_.callback(self.journal.release)
            self.checkpoints = Checkpoints(
                self.workdir,
                self.cfg.checkpointing,
                alone=self.at_once == 1,
                check=self.journal.check_lease,
            )
            open_.callback(self._close)
            self.state = self._initial_state()
            self.start = int(self.state.step)
            display = Display(self.resolved.steps, self.start, enabled=self.show)
            self.journal.open(self.start, display)
            open_.callback(self.journal.close)
            try:
                with display:
                    self._compile()
                    return self._loop()
            except lease.Lost:
                raise
            except RunFailed as failure:
                self._fail(str(failure), **failure.details)
                raise
            except UserError as error:  # an image that turns out to be damaged when it is due
                self._fail(str(error))
                raise RunFailed(str(error)) from error
            except Exception as error:
                if disk.trouble(error):
                    raise self._disk_failure(error) from error
                if processes.count() > 1 and isinstance(error, jax.errors.JaxRuntimeError):
                    raise self._left_alone(error) from error
                raise

    def _left_alone(self, error: Exception) -> RunFailed:
        """What to say where a collective operation failed; the summary says it too."""
        line = " ".join(str(error).split())[:160]
        failure = RunFailed(f"another process of this run ended ({line}); the same command in each continues")
        self._fail(str(failure))
        return failure

    def _disk_failure(self, error: Exception) -> RunFailed:
        """What to say of a full disk; the summary says it too, if it still fits."""
        failure = disk.failure(error, self.workdir, self.checkpoints)
        with contextlib.suppress(OSError):
            self._fail(str(failure))
        return failure

    def _fail(self, reason: str, **details: Any) -> None:
        """Write the summary of a run that failed; of several processes the others may not take part in it."""
        if processes.count() > 1:
            self.journal.refused(reason, **details)
        else:
            self._summary("failed", reason=reason, **details)

    def _close(self) -> None:
        """Close the checkpoints; what of them cannot be written any more has been reported before."""
        try:
            self.checkpoints.close()
        except Exception as error:
            if not disk.trouble(error):
                raise

    def _initial_state(self) -> state.TrainState:
        """A new state, or the newest sound checkpoint's."""
        if self.checkpoints.steps():
            try:
                like = programs.state_shapes(self.resolved, self.pipeline)
                restored = self.checkpoints.restore_latest(like, self.journal.complete)
            except RunFailed as failure:
                self.journal.refused(str(failure))
                raise
            if restored is not None:
                self.journal.progress = restored[1]
                return restored[0]
        return programs.new_state(self.resolved, self.pipeline)

    def _compile(self) -> None:
        began = time.perf_counter()
        self.resident = sharing.on_devices(self.layout.replicate, self.layout, self.pipeline.resident)
        self.train_step = sharing.once(
            ("train", self.resolved.signature),
            lambda: programs.compile_train(self.resolved, self.pipeline, self.state, self.resident),
        )
        self.evaluation = Evaluation(self.resolved, self.pipeline, self.resident)
        self.evaluation.compile(self.state)
        self.probing = Probing(self.resolved, self.pipeline, self.resident) if self.cfg.probes.names else None
        if self.probing is not None:
            self.probing.compile(self.state)
        self.journal.progress["compile_seconds"] += time.perf_counter() - began

    def _loop(self) -> dict[str, Any]:
        with contextlib.closing(self.pipeline.train(self.start)) as feeds:
            self._steps(self.layout.ahead(feeds))
        if not self.journal.is_begun:  # no step was left to take
            self.journal.begun(self.pipeline.resident, at_once=self.at_once)
        self.journal.tick()
        self.checkpoints.wait()
        if document := overlays.drawn(self.resolved, self.pipeline, self.state):
            self.journal.check_lease()
            storage.write(self.workdir / overlays.FILE, document)
        early = self.journal.is_stale() and int(self.state.step) < self.resolved.steps
        return self._summary("finished", **({"stopped_early": True} if early else {}))

    def _steps(self, feeds: Iterator[PyTree]) -> None:
        """Every step from where the run stands to its end."""
        journal, resolved = self.journal, self.resolved
        measured: deque[tuple[int, step.Measures]] = deque()
        journal.start_clock()
        if self.start == 0:
            self._probe(0)
        idle, logged = 0.0, (self.start, time.perf_counter())
        for done in range(self.start + 1, resolved.steps + 1):
            if journal.is_stale():
                return
            with self._reading(done - 1, measured):
                feed = next(feeds)
            rate = self.layout.replicate(journal.rates[done - 1])
            with jax.transfer_guard_host_to_device("disallow"):  # everything the step needs is on the devices
                self.state, measures = self.train_step(self.state, self.resident, feed, rate)
            measured.append((done, measures))
            if done == self.start + 1:  # while the device takes the first step
                journal.begun(self.pipeline.resident, at_once=self.at_once)
            logging_due, eval_due = resolved.due(resolved.log_every, done), resolved.due(resolved.eval_every, done)
            stop = self._is_to_stop()
            save_due = resolved.due(resolved.save_every, done) or stop
            probe_due = self.probing is not None and resolved.due(resolved.probe_every, done)
            while len(measured) > (0 if logging_due or eval_due or save_due or probe_due else IN_FLIGHT):
                self._check(*measured.popleft())
            if logging_due:
                seconds = time.perf_counter() - logged[1] - idle
                journal.trained(done, parallel.host(self.state.statistics), done - logged[0], seconds)
                self.state = self.state.replace(statistics=self.layout.place(zeros_like(self.state.statistics)))
                logged, idle = (done, time.perf_counter()), 0.0
            paused = time.perf_counter()
            with self._reading(done, measured, save=False):  # a checkpoint here would be one without its evaluation
                if eval_due:
                    journal.evaluated(done, self.evaluation(self.state))
            if probe_due or journal.is_stale():
                self._probe(done)
            if save_due or journal.is_best(done) or journal.is_stale():
                statistics = self.evaluation.statistics if eval_due else None
                self._save(done, statistics=statistics)
            idle += time.perf_counter() - paused
            if stop and done < resolved.steps:
                self._preempt(done)

    def _is_to_stop(self) -> bool:
        """Whether the run was asked to stop; of several processes all hear of it after the same step."""
        if self.layout.processes == 1:
            return self.asked.is_set()
        if self.layout.overlaps:
            jax.block_until_ready(self.state)
            return bool(jax.block_until_ready(self.layout.any_process(self.asked.is_set())))
        self.flags.append(self.layout.any_process(self.asked.is_set()))
        return len(self.flags) > IN_FLIGHT and bool(self.flags.popleft())

    def _probe(self, done: int) -> None:
        if self.probing is not None:
            self.journal.probed(done, self.probing(self.state))

    def _save(self, done: int, **more: Any) -> None:
        self.journal.tick()
        self.journal.commit()
        self.checkpoints.save(done, self.state, self.journal.progress, **more)

    def _check(self, at: int, measures: step.Measures) -> None:
        """Wait for a step; raises `RunFailed` where its loss is no number."""
        self.journal.check(at, parallel.host(measures))

    @contextlib.contextmanager
    def _reading(
        self, done: int, measured: Iterable[tuple[int, step.Measures]], *, save: bool = True
    ) -> Iterator[None]:
        """Takes the end of the reading processes for the signal that it is, where one went to the whole group.

        Without `save` the run goes on from the checkpoint before: what was being read for is then done again.
        """
        try:
            yield
        except RunFailed:
            if self.asked.is_set() and self.layout.processes == 1:
                for earlier in measured:
                    self._check(*earlier)
                self._preempt(done, save=save)
            raise

    def _preempt(self, done: int, *, save: bool = True) -> NoReturn:
        """Save what there is after `done` steps (or leave it at the last checkpoint), say so, and end."""
        if save and done > self.start:
            self._save(done)
        self.checkpoints.wait()
        self._summary("preempted")
        raise Preempted(f"preempted at step {done} of {self.resolved.steps}; the same command continues")

    def _summary(self, status: Ended, **more: Any) -> dict[str, Any]:
        return self.journal.summary(status, self.state, **more)


def zeros_like(tree: PyTree) -> PyTree:
    """Zeros on the host in the shapes of `tree`."""
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree)
