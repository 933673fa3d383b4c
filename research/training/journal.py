"""What one run says of itself while it trains: records, progress that survives a restart, and the summary.

The loop steps and asks; a journal writes. A run that trains in a group has one like any other.
"""

import math
import time
from collections.abc import Mapping
from typing import Any, Literal

from etils import epath

from research import config as configs
from research import storage
from research.errors import RunFailed, UserError
from research.scaling import complexity
from research.sweeps.identity import run_identity
from research.training import environment, lease, processes, record, state
from research.training.display import Display
from research.training.record import CONFIG, ENVIRONMENT, METRICS, SUMMARY
from research.training.resolve import Resolved
from research.training.trackers import Run
from research.training.tracking import Followed, Tracking

PyTree = Any
Ended = Literal["finished", "failed", "preempted"]
SEEN_AFTER = 10  # seconds after which what one host has written is seen on another, over a network


class Journal:
    """The records of the run of `resolved` in `workdir`.

    `group`: {"id", "members", "index"} of the population it trains in, whose seconds its members share equally.
    `tracking`: who follows it besides.
    """

    def __init__(
        self,
        resolved: Resolved,
        workdir: epath.Path,
        cost: complexity.Cost,
        *,
        group: Mapping[str, Any] | None = None,
        tracking: Tracking = Tracking(),
    ) -> None:
        self.resolved, self.workdir, self.cost, self.group = resolved, workdir, cost, group
        self.tracking = tracking
        self.members = len(group["members"]) if group else 1
        self.task = resolved.task
        self.rates = resolved.rates()
        self.gradient_norm = math.nan  # of the last step that was waited for
        # Of the process that writes: where several train together, the others have none.
        self.lease: lease.Lease | None = None
        self.writer: record.MetricsWriter | None = None
        self.followed: Followed | None = None
        self.is_begun = False  # by this process
        # What is not device state but must survive a restart; saved beside each checkpoint.
        self.progress: dict[str, Any] = {
            "train_seconds": 0.0,
            "compile_seconds": 0.0,
            "best": None,
            "since_best": 0,  # evaluations
            "evaluated": {},
            "records": 0,  # lines of metrics.jsonl
            "group": group["id"] if group else None,
        }

    def claim(self, *, patient: bool = True) -> dict[str, Any] | None:
        """Hold the folder and write what a run begins with; its summary where another process has finished it since.

        Of processes that train together the first does. Raises `lease.InUse` where another process holds it
        (`patient`: see `lease.take`).
        """
        finished = processes.from_first(lambda: self._claim(patient=patient))
        if finished is None and processes.count() > 1:
            processes.everywhere(self._check_shared)
        return finished

    def _claim(self, *, patient: bool) -> dict[str, Any] | None:
        self.lease = lease.take(self.workdir, patient=patient)
        try:
            return self._claimed()
        except BaseException:  # a full disk, a damaged record: the next one to try must not find this process here
            self.release()
            raise

    def _check_shared(self) -> None:
        """Raise `UserError` where this process does not see what the first writes."""
        token = processes.from_first(lambda: lease.progress(self.workdir).token)
        for _ in range(SEEN_AFTER):
            if lease.progress(self.workdir).token == token:
                return
            time.sleep(1)
        raise UserError(f"workdir {str(self.workdir)!r} is not the folder of process 0; expected one that all share")

    def _claimed(self) -> dict[str, Any] | None:
        summary = record.read_summary(self.workdir)
        if summary is not None and summary["status"] == "finished":
            self.release()
            return summary
        storage.remove_partial(self.workdir)
        storage.remove(self.workdir / SUMMARY)  # of a run that was preempted or failed: it goes on now
        storage.write(self.workdir / CONFIG, configs.to_json(self.resolved.config))
        return None

    def complete(self, step: int, progress: Mapping[str, Any]) -> bool:
        """Whether a checkpoint after `step` steps is of this run, with all records that it had when it was saved.

        Begun alone or in another group, it is another run in its last bits. Older code counted no records.
        """
        rows, wrong = record.sound_metrics(self.workdir / METRICS)
        there = sum(row["step"] <= step for row in rows)
        own = progress.get("group") == self.progress["group"]
        return own and (there == progress["records"] if "records" in progress else not wrong)

    def open(self, start: int, display: Display) -> None:
        """Go on after `start` steps: records beyond them, of a run that died, are dropped."""
        self.display = display
        if self.lease is None:
            return
        self.writer = record.MetricsWriter(self.workdir, start_step=start, check=self.lease.check)
        self.progress["records"] = self.writer.count
        cfg, told = self.resolved.config, self.tracking
        name = told.run or self.workdir.name
        run = Run(run_identity(cfg).id, name, told.group, self.workdir, configs.to_dict(cfg), start)
        self.followed = Followed(told.names, run)

    def close(self) -> None:
        """Close what `open` opened: who follows a run that has no summary yet hears that it failed."""
        if self.followed is None:
            return
        try:
            self.check_lease()
        except lease.Lost:
            self.followed.end("lost", {})
        else:
            self.followed.end("failed", {})

    def release(self) -> None:
        """Let go of the folder."""
        if self.lease is not None:
            self.lease.release()

    def check_lease(self) -> None:
        """Raise `lease.Lost` where the folder went to another process."""
        if self.lease is not None:
            self.lease.check()

    def commit(self) -> None:
        """To be called before a state or a summary is written. Raises `lease.Lost` where the folder is another's."""
        self.check_lease()
        if self.writer is not None:
            self.writer.flush()

    def _write(self, row: Mapping[str, Any]) -> None:
        if self.writer is not None and self.followed is not None:
            self.writer.write(row)
            self.progress["records"] = self.writer.count
            self.followed.write(row)

    def _put(self, name: str, values: Mapping[str, Any]) -> None:
        if self.lease is not None:
            self.commit()
            record.write_json(self.workdir / name, values)

    def start_clock(self) -> None:
        """The run's seconds count from now on."""
        self._clock = time.perf_counter()

    def tick(self) -> None:
        """Add the time since the last tick to the run's training seconds."""
        now = time.perf_counter()
        self.progress["train_seconds"] += (now - self._clock) / self.members
        self._clock = now

    def _base(self, done: int) -> dict[str, Any]:
        self.tick()
        return {"step": done, "epoch": self.resolved.epoch(done), "wall_time": self.progress["train_seconds"]}

    def begun(self, normalisation: Mapping[str, Any], *, at_once: int = 1) -> None:
        """Write under which circumstances the run is made (`environment.describe`)."""
        self.is_begun = True
        described = environment.describe(self.resolved, normalisation, at_once=at_once, group=self.group)
        self._put(ENVIRONMENT, described)

    def check(self, at: int, measures: Mapping[str, Any]) -> None:
        """Note what a step measured, on the host; raises `RunFailed` where its loss is no number."""
        values = {key: float(value) for key, value in measures.items()}
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
        if self.lease is not None:
            self.lease.done(at, self.resolved.steps)

    def trained(self, done: int, statistics: PyTree, steps: int, seconds: float) -> None:
        """Record the `steps` since the last record, which took `seconds`: their `statistics`, on the host."""
        images = steps * self.members * self.resolved.config.data.batch_size
        values = self.task.values(statistics)
        row = {
            **self._base(done),
            **{f"train/{key}": value for key, value in values.items()},
            "train/gradient_norm": self.gradient_norm,  # of this step, before clipping
            "learning_rate": float(self.rates[done - 1]),
            "images_per_second": images / max(seconds, 1e-9),
        }
        self._write(row)
        self.display.record(row)

    def evaluated(self, done: int, values: Mapping[str, Mapping[str, Any]]) -> float:
        """Record an evaluation and remember the best; returns the metric that says which checkpoint is best.

        Raises `RunFailed` where the loss is no number.
        """
        row = {f"{prefix}/{key}": value for prefix, found in values.items() for key, value in found.items()}
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float)}
        loss, metric = values["eval"]["loss"], float(values["eval"][self.task.metric])
        if math.isfinite(loss):
            self._remember(done, metric)
        # Lists (per class, the confusion matrix) go into the last record only: with 1,000 classes they weigh megabytes.
        last = done == self.resolved.steps or self.is_stale()
        written = {**self._base(done), **(row if last else numbers)}
        self._write(written)
        self.display.record(written)
        if not math.isfinite(loss):
            raise RunFailed(f"the loss on the evaluation split is {loss} at step {done}")
        self.progress["evaluated"] = numbers
        return metric

    def probed(self, done: int, found: Mapping[str, float]) -> None:
        """Record what the probes found, as `probe/PROBE/LAYER`."""
        self._write({**self._base(done), **{f"probe/{key}": value for key, value in found.items()}})

    def _remember(self, done: int, metric: float) -> None:
        """Which evaluation was best, and how many there were since."""
        best = self.progress["best"]
        sign = 1 if self.task.higher_is_better else -1
        if best is None or sign * metric >= sign * best["value"]:  # the later of equals, as Orbax keeps it
            self.progress["best"] = {"step": done, "value": metric}
        better = best is None or sign * metric > sign * best["value"]
        self.progress["since_best"] = 0 if better else self.progress["since_best"] + 1

    def is_stale(self) -> bool:
        """Whether the run ends early: as many evaluations without a better one as its patience."""
        return 0 < self.resolved.config.budget.patience <= self.progress["since_best"]

    def is_best(self, done: int) -> bool:
        """Whether the evaluation after `done` steps is the best, of a run that keeps its best checkpoint."""
        best = self.progress["best"]
        return self.resolved.config.checkpointing.keep_best and best is not None and best["step"] == done

    def refused(self, reason: str, **details: Any) -> None:
        """Write the summary of a run that failed before it had a state, or where its state is out of reach."""
        self._put(SUMMARY, {"status": "failed", "reason": reason, **details})

    def summary(self, status: Ended, current: state.TrainState, **more: Any) -> dict[str, Any]:
        """Write and return the summary of a run that has come to `current`."""
        best = self.progress["best"]
        summary: dict[str, Any] = {
            "status": status,
            "step": int(current.step),
            "params": self.cost.params,
            "macs": self.cost.macs,
            "activations": self.cost.activations,
            "train_seconds": self.progress["train_seconds"],
            "compile_seconds": self.progress["compile_seconds"],
            "params_digest": state.digest({"params": current.params, "batch_stats": current.batch_stats}),
            **self.progress["evaluated"],
            **({f"best/{self.task.metric}": best["value"], "best/step": best["step"]} if best else {}),
            **({"group": self.group} if self.group else {}),
            **more,
            record.VERIFIES: {
                "config": record.checksum(configs.to_dict(self.resolved.config)),
                "metrics": self.progress["records"],
            },
        }
        self._put(SUMMARY, summary)
        if self.followed is not None:
            self.followed.end(status, summary)
        return summary
