"""The loop: the one impure place where a run happens, whatever its task.

    config -> resolve -> compile -> [step, log, evaluate, save]* -> summary

A run continues where its folder left off: the state comes back from the newest sound checkpoint, the records written
beyond it are dropped, and the rest is computed again to the same bits.
"""

import contextlib
import errno
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any, NoReturn

import jax
import numpy as np
from etils import epath

from research import config as configs
from research import data
from research.config import Config
from research.errors import Preempted, RunFailed, UserError
from research.scaling import complexity
from research.training import environment, parallel, preemption, programs, record, resolve, state, step
from research.training.checkpoint import Checkpoints
from research.training.display import Display
from research.training.evaluation import Evaluation
from research.training.record import CONFIG, ENVIRONMENT, SUMMARY
from research.training.resolve import Resolved, build_model
from research.values import due

PyTree = Any
_IN_FLIGHT = 2  # steps dispatched ahead of the one being waited for: keeps the device busy and a signal's answer quick


def check_folder(cfg: Config, workdir: epath.PathLike) -> dict[str, Any] | None:
    """The summary of `workdir` if this very run is finished there, else None.

    Raises `UserError` when the folder holds a run of another config, naming the keys that differ.
    """
    folder = record.check_workdir(workdir)
    if (folder / CONFIG).exists():
        there = configs.from_dict(record.read_json(folder / CONFIG))
        different = configs.differences(there, cfg)
        if different:
            shown = ", ".join(f"{key} ({old} there, {new} now)" for key, (old, new) in different.items())
            raise UserError(f"workdir {str(workdir)!r} holds a run of another config: {shown}; expected a new folder")
    elif folder.exists() and (folder / SUMMARY).exists():
        raise UserError(f"workdir {str(workdir)!r} holds a summary without a config; expected a new folder")
    if (folder / SUMMARY).exists():
        summary = record.read_json(folder / SUMMARY)
        if not isinstance(summary, dict) or summary.get("status") not in record.STATUSES:
            raise UserError(f"{folder / SUMMARY} is damaged: it has no status; remove it to continue the run")
        if summary["status"] == "finished":
            return summary
    return None


def train(cfg: Config, workdir: epath.PathLike, *, display: bool = True) -> dict[str, Any]:
    """Train `cfg` in `workdir` to its end, from where the folder left off; returns the summary.

    A finished folder is left as it is. Raises `UserError` before anything is compiled; `RunFailed` when the loss is
    no longer finite, the disk is full or an image cannot be read (the summary then says `failed`); `Preempted` after a
    SIGTERM or SIGINT (state is saved).
    """
    finished = check_folder(cfg, workdir)
    if finished is not None:
        if display:
            Display(0).say(f"{workdir} is finished (step {finished['step']}); nothing to do")
        return finished
    resolved = resolve.resolve(cfg)
    with preemption.asked_to_stop() as asked, resolve.matmul_precision(cfg):
        return _Run(resolved, epath.Path(workdir), asked, display).run()


def _cost(resolved: Resolved) -> dict[str, int]:
    """Exact params, multiply-adds and activations for one example."""
    model = build_model(resolved.config, num_classes=resolved.task.num_outputs)
    cost = complexity.count(model, (1, *resolved.info.shape))
    return {"params": cost.params, "macs": cost.macs, "activations": cost.activations}


class _Run:
    """One run in one process: what the loop carries from step to step."""

    def __init__(self, resolved: Resolved, workdir: epath.Path, asked: threading.Event, display: bool) -> None:
        self.resolved, self.workdir, self.asked = resolved, workdir, asked
        self.cfg, self.layout, self.task = resolved.config, resolved.layout, resolved.task
        self.show = display
        self.gradient_norm = math.nan  # of the last step that was waited for
        # What is not device state but must survive a restart; saved beside each checkpoint.
        self.progress: dict[str, Any] = {
            "train_seconds": 0.0,
            "compile_seconds": 0.0,
            "best": None,
            "since_best": 0,  # evaluations
            "evaluated": {},
        }

    def run(self) -> dict[str, Any]:
        """Prepare, loop, and write the summary whatever the end."""
        with ThreadPoolExecutor(1) as reader:  # decompressing and tracing go side by side
            host = parallel.this_host()
            pipeline = reader.submit(
                data.pipeline, self.resolved.data, self.cfg.augmentation, seed=self.cfg.seed, host=host
            )
            self.cost = _cost(self.resolved)
            self.pipeline = pipeline.result()
        self._open_folder()
        self.checkpoints = Checkpoints(
            self.workdir, self.cfg.checkpointing, higher_is_better=self.task.higher_is_better
        )
        self.rates = self.resolved.rates()
        self.state = self._initial_state()
        self.start = int(self.state.step)
        self.writer = record.MetricsWriter(self.workdir, start_step=self.start)
        try:
            with Display(self.resolved.steps, self.start, enabled=self.show) as self.display:
                self._compile()
                summary = self._loop()
        except RunFailed as failure:
            self._summary("failed", reason=str(failure), **failure.details)
            raise
        except UserError as error:  # an image that turns out to be damaged when it is due
            self._summary("failed", reason=str(error))
            raise RunFailed(str(error)) from error
        except Exception as error:
            if not disk_is_full(error):
                raise
            raise self._disk_failure() from error
        finally:
            self._close()
        return summary

    def _disk_failure(self) -> RunFailed:
        """What to say of a full disk; the summary says it too, if it still fits."""
        sound = self.checkpoints.steps()
        last = f"step {sound[-1]}" if sound else "none"
        failure = RunFailed(f"no space left for {self.workdir}; last checkpoint: {last}; the same command continues")
        with contextlib.suppress(OSError):
            self._summary("failed", reason=str(failure))
        return failure

    def _close(self) -> None:
        """Close what is open; what of it cannot be written any more has been reported before."""
        self.writer.close()
        try:
            self.checkpoints.close()
        except Exception as error:
            if not disk_is_full(error):
                raise
        finally:
            if self.lock is not None:
                self.lock.close()

    def _open_folder(self) -> None:
        """Write what a run begins with; nothing is written before its data could be read."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.lock = record.lock(self.workdir)
        record.write_text(self.workdir / CONFIG, configs.to_json(self.cfg))
        (self.workdir / SUMMARY).unlink(missing_ok=True)  # of a run that was preempted or failed: it goes on now

    def _initial_state(self) -> state.TrainState:
        """A new state, or the newest sound checkpoint's."""
        restored = self.checkpoints.restore_latest(programs.state_shapes(self.resolved, self.pipeline))
        if restored is None:
            return programs.new_state(self.resolved, self.pipeline)
        self.progress = restored[1]
        return restored[0]

    def _compile(self) -> None:
        began = time.perf_counter()
        self.resident = self.layout.replicate(self.pipeline.resident)
        self.train_step = programs.compile_train(self.resolved, self.pipeline, self.state, self.resident)
        self.evaluation = Evaluation(self.resolved, self.pipeline, self.resident)
        self.evaluation.compile(self.state)
        self.progress["compile_seconds"] += time.perf_counter() - began

    def _rate(self, done: int) -> jax.Array:
        """The learning rate of the step that makes it `done`, placed."""
        return self.layout.replicate(self.rates[done - 1])

    def _loop(self) -> dict[str, Any]:
        with contextlib.closing(self.pipeline.train(self.start)) as feeds:
            self._steps(self.layout.ahead(feeds))
        self._tick()
        self.checkpoints.wait()
        return self._summary("finished", **({"stopped_early": True} if self._stopped_early() else {}))

    def _steps(self, feeds: Iterator[PyTree]) -> None:
        """Every step from where the run stands to its end."""
        steps, batch = self.resolved.steps, self.cfg.data.batch_size
        measured: deque[tuple[int, step.Measures]] = deque()
        self._clock, self._idle, logged = time.perf_counter(), 0.0, (self.start, time.perf_counter())
        for done in range(self.start + 1, steps + 1):
            if self._is_stale():
                return
            with self._reading(done - 1, measured):
                feed = next(feeds)
            rate = self._rate(done)
            with jax.transfer_guard_host_to_device("disallow"):  # everything the step needs is on the devices
                self.state, measures = self.train_step(self.state, self.resident, feed, rate)
            measured.append((done, measures))
            if done == self.start + 1:  # while the device takes the first step
                record.write_json(
                    self.workdir / ENVIRONMENT, environment.describe(self.resolved, self.pipeline.resident)
                )
            logging_due, eval_due = self._due(self.resolved.log_every, done), self._due(self.resolved.eval_every, done)
            stop = self.asked.is_set()
            save_due = self._due(self.resolved.save_every, done) or stop
            while len(measured) > (0 if logging_due or eval_due or save_due else _IN_FLIGHT):
                self._check(*measured.popleft())
            if logging_due:
                seconds = time.perf_counter() - logged[1] - self._idle
                self._log_training(done, (done - logged[0]) * batch / max(seconds, 1e-9))
                logged, self._idle = (done, time.perf_counter()), 0.0
            paused = time.perf_counter()
            with self._reading(done, measured, save=False):  # a checkpoint here would be one without its evaluation
                metric = self._evaluate(done) if eval_due else None
            if save_due or self._is_best(done) or self._is_stale():
                self._tick()
                statistics = self.evaluation.statistics if eval_due else None
                self.checkpoints.save(done, self.state, self.progress, metric=metric, statistics=statistics)
            self._idle += time.perf_counter() - paused
            if stop and done < steps:
                self._preempt(done)

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
            if self.asked.is_set():
                for earlier in measured:
                    self._check(*earlier)
                self._preempt(done, save=save)
            raise

    def _preempt(self, done: int, *, save: bool = True) -> NoReturn:
        """Save what there is after `done` steps (or leave it at the last checkpoint), say so, and end."""
        if save and done > self.start:
            self._tick()
            self.checkpoints.save(done, self.state, self.progress)
        self.checkpoints.wait()
        self._summary("preempted")
        raise Preempted(f"preempted at step {done} of {self.resolved.steps}; the same command continues")

    def _due(self, period: Fraction, done: int) -> bool:
        return done == self.resolved.steps or due(period, done)

    def _is_stale(self) -> bool:
        """Whether the run ends early: as many evaluations without a better one as its patience."""
        return 0 < self.cfg.budget.patience <= self.progress["since_best"]

    def _stopped_early(self) -> bool:
        return self._is_stale() and int(self.state.step) < self.resolved.steps

    def _is_best(self, done: int) -> bool:
        best = self.progress["best"]
        return self.cfg.checkpointing.keep_best and best is not None and best["step"] == done

    def _check(self, at: int, measures: step.Measures) -> None:
        """Wait for a step; raises `RunFailed` where its loss is no number."""
        values = {key: float(value) for key, value in parallel.host(measures).items()}
        if not math.isfinite(values["loss"]):
            rate, norm = float(self.rates[at - 1]), values["gradient_norm"]
            raise RunFailed(
                f"the loss is {values['loss']} at step {at} (learning rate {rate:g}, gradient norm {norm:g}; "
                f"{self.gradient_norm:g} one step before)",
                step=at,
                learning_rate=rate,
                gradient_norm=str(norm),  # JSON has no word for inf and nan
                gradient_norm_before=self.gradient_norm,
            )
        self.gradient_norm = values["gradient_norm"]

    def _tick(self) -> None:
        """Add the time since the last tick to the run's training seconds."""
        now = time.perf_counter()
        self.progress["train_seconds"] += now - self._clock
        self._clock = now

    def _base(self, done: int) -> dict[str, Any]:
        self._tick()
        return {
            "step": done,
            "epoch": self.resolved.epoch(done),
            "wall_time": self.progress["train_seconds"],
        }

    def _log_training(self, done: int, images_per_second: float) -> None:
        values = self.task.values(parallel.host(self.state.statistics))
        numbers = {f"train/{key}": value for key, value in values.items()}
        more = {
            "train/gradient_norm": self.gradient_norm,  # of this step, before clipping
            "learning_rate": float(self.rates[done - 1]),
            "images_per_second": images_per_second,
        }
        row = {**self._base(done), **numbers, **more}
        self.writer.write(row)
        self.display.record(row)
        self.state = self.state.replace(statistics=self.layout.place(_zeros_like(self.state.statistics)))

    def _evaluate(self, done: int) -> float:
        """Evaluate, record, and remember the best; returns the metric that says which checkpoint is best."""
        values = self.evaluation(self.state)
        row = {f"{prefix}/{key}": value for prefix, found in values.items() for key, value in found.items()}
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float)}
        loss, metric = values["eval"]["loss"], float(values["eval"][self.task.metric])
        if math.isfinite(loss):
            self._remember(done, metric)
        # Lists (per class, the confusion matrix) go into the last record only: with 1,000 classes they weigh megabytes.
        last = done == self.resolved.steps or self._is_stale()
        written = {**self._base(done), **(row if last else numbers)}
        self.writer.write(written)
        self.display.record(written)
        if not math.isfinite(loss):
            raise RunFailed(f"the loss on the evaluation split is {loss} at step {done}")
        self.progress["evaluated"] = numbers
        return metric

    def _remember(self, done: int, metric: float) -> None:
        """Which evaluation was best, and how many there were since."""
        best = self.progress["best"]
        sign = 1 if self.task.higher_is_better else -1
        if best is None or sign * metric >= sign * best["value"]:  # the later of equals, as Orbax keeps it
            self.progress["best"] = {"step": done, "value": metric}
        better = best is None or sign * metric > sign * best["value"]
        self.progress["since_best"] = 0 if better else self.progress["since_best"] + 1

    def _summary(self, status: str, **more: Any) -> dict[str, Any]:
        best = self.progress["best"]
        summary: dict[str, Any] = {
            "status": status,
            "step": int(self.state.step),
            **self.cost,
            "train_seconds": self.progress["train_seconds"],
            "compile_seconds": self.progress["compile_seconds"],
            "params_digest": state.digest({"params": self.state.params, "batch_stats": self.state.batch_stats}),
            **self.progress["evaluated"],
            **({f"best/{self.task.metric}": best["value"], "best/step": best["step"]} if best else {}),
            **more,
        }
        record.write_json(self.workdir / SUMMARY, summary)
        return summary


def _zeros_like(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree)


def disk_is_full(error: BaseException) -> bool:
    """Whether an error, or what led to it, is a disk without space: libraries wrap it in types of their own."""
    while True:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            return True
        before = error.__cause__ or error.__context__
        if before is None:
            return False
        error = before
