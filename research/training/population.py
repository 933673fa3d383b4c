"""Populations: runs that share their programs, each with its own seed and numbers, trained in one compiled step.

The step is `vmap` of the one that a run alone takes (`step.of_members`): a member differs from its run alone by the
order of additions. Its records, checkpoints and summary are its own, in its own folder, and its seconds an equal share
of the group's. The states of all are checkpointed as one, in a folder of the group's, until every member has ended:
what is left of an interrupted group is trained by the whole of it, to the same bits.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath

from research import data
from research.config import Config
from research.errors import Preempted, RunFailed
from research.training import disk, lease, loop, parallel, preemption, programs, record, resolve, sharing, state, step
from research.training.checkpoint import FOLDER, Checkpoints
from research.training.display import Display
from research.training.evaluation import Evaluation
from research.training.journal import Ended, Journal
from research.training.resolve import Resolved
from research.training.tracking import Tracking

PyTree = Any


@dataclass(frozen=True)
class Member:
    """One run of a group: its identity, its folder, whether its folder is to be written (it is not finished), and who
    follows it then.
    """

    id: str
    config: Config
    workdir: epath.Path
    recorded: bool = True
    tracking: Tracking = Tracking()


def lockstep(resolved: Resolved) -> Hashable | None:
    """Equal for runs that can train in one step; None for one that cannot.

    That are those whose images differ from member to member before the step (streamed ones), that end early, that
    estimate batch statistics anew, that are probed, or whose layout splits more than the batch.
    """
    cfg = resolved.config
    streamed = data.input_of(resolved.data, cfg.augmentation) == "streaming"
    own = cfg.budget.patience or cfg.evaluation.batch_norm_batches or cfg.probes.names
    if streamed or own or not resolved.layout.holds_members:
        return None
    return resolved.signature, cfg.budget, cfg.checkpointing


def train(members: Sequence[Member], folder: epath.PathLike, *, display: bool = True) -> list[dict[str, Any]]:
    """Train `members` to their end, from where the group's `folder` left off; the summaries of those recorded.

    A member whose loss is no longer finite has the status `failed`, and the others go on as they would have. Raises
    `UserError` before anything is compiled, `RunFailed` for what ends all of them (a full disk), and `Preempted`.
    """
    resolved = [resolve.resolve(member.config) for member in members]
    if len({lockstep(one) for one in resolved} | {None}) != 2:
        raise ValueError("these runs cannot train in one step")
    with preemption.asked_to_stop() as asked, resolve.matmul_precision(members[0].config):
        return _Population(members, resolved, epath.Path(folder), asked, display).run()


def member_of(tree: PyTree, index: int) -> PyTree:
    """The part of a member in a stacked pytree on the host."""
    return jax.tree.map(lambda x: x[index], tree)


class _Population:
    """A group in one process: what its loop carries from step to step."""

    def __init__(
        self, members: Sequence[Member], resolved: list[Resolved], folder: epath.Path, asked: Any, display: bool
    ) -> None:
        self.members, self.folder, self.asked, self.show = members, folder, asked, display
        self.resolved, self.lead, self.layout = resolved, resolved[0], resolved[0].layout
        ids = [member.id for member in members]
        of_group = [{"id": self.folder.name, "members": ids, "index": index} for index in range(len(ids))]
        cost = loop.cost(self.lead)
        self.journals = [
            Journal(one, epath.Path(member.workdir), cost, group=group, tracking=member.tracking)
            for one, member, group in zip(resolved, members, of_group, strict=True)
        ]
        self.active = [index for index, member in enumerate(members) if member.recorded]
        self.failed: dict[str, dict[str, Any]] = {}  # by index: the summaries of members that failed
        self.ended: dict[int, dict[str, Any]] = {}  # of those that another process has finished
        self.is_over = False
        self.kept: dict[int, Checkpoints] = {}  # of members, once they have one

    def run(self) -> list[dict[str, Any]]:
        """Prepare, loop, and write the summaries whatever the end."""
        self.pipelines = [programs.pipeline_of(one) for one in self.resolved]
        with contextlib.ExitStack() as open_:
            self.lease = lease.take(self.folder, patient=False)
            open_.callback(self._let_go)
            self._claim(open_)
            if not self.active:
                return self._summaries("finished")
            self.checkpoints = self._checkpoints(self.folder, self.lease.check)
            open_.callback(self._close)
            self.state = self._initial_state()
            self.start = int(np.asarray(self.state.step)[0])
            self._take_back()
            display = Display(self.lead.steps, self.start, enabled=self.show)
            for index in self.active:
                shown = display if index == self.active[0] else Display(self.lead.steps, enabled=False)
                self.journals[index].open(self.start, shown)
                open_.callback(self.journals[index].close)
            try:
                with display:
                    self._compile()
                    return self._loop()
            except Exception as error:
                if not disk.trouble(error):
                    raise
                failure = disk.failure(error, self.folder, self.checkpoints)
                with contextlib.suppress(OSError):
                    self._summaries("failed", reason=str(failure))
                raise failure from error

    def _claim(self, open_: contextlib.ExitStack) -> None:
        """Hold the folders of all members that are recorded; those that another process has finished since leave."""
        for index in list(self.active):
            summary = self.journals[index].claim(patient=False)
            if summary is None:
                open_.callback(self.journals[index].release)
            else:
                self.ended[index] = summary
                self.active.remove(index)

    def _let_go(self) -> None:
        """Let go of the group's folder, which nobody needs any more where every member has ended."""
        if self.is_over:
            self.lease.remove()
        else:
            self.lease.release()

    def _checkpoints(self, folder: epath.PathLike, check: Callable[[], None]) -> Checkpoints:
        return Checkpoints(folder, self.lead.config.checkpointing, alone=False, check=check)

    def _close(self) -> None:
        for checkpoints in (self.checkpoints, *self.kept.values()):
            with contextlib.suppress(OSError):  # it has been reported before
                checkpoints.close()

    def _initial_state(self) -> state.TrainState:
        """New states, or those of the group's newest sound checkpoint."""
        restored = None
        count = len(self.members)
        if self.checkpoints.steps():
            one = programs.state_shapes(self.lead, self.pipelines[0])
            like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), one)
            restored = self.checkpoints.restore_latest(self.layout.placed(like), self._complete)
        if restored is None:
            pairs = zip(self.resolved, self.pipelines, strict=True)
            return self.layout.place(programs.stacked([programs.new_state(*pair) for pair in pairs]))
        current, progress = restored
        for journal, of_member in zip(self.journals, progress["members"], strict=True):
            journal.progress = of_member
        for index, summary in progress["failed"].items():
            if int(index) in self.active:
                self._leave(int(index), summary)
        return current

    def _complete(self, step: int, progress: Mapping[str, Any]) -> bool:
        """Whether all members have the records with which a checkpoint of the group was saved."""
        return all(
            self.journals[index].complete(step, progress["members"][index])
            for index in self.active
            if str(index) not in progress["failed"]
        )

    def _take_back(self) -> None:
        """Remove what members have kept beyond the start, which they come to again, or of another run."""
        for index in self.active:
            folder = epath.Path(self.members[index].workdir)
            if (folder / FOLDER).exists():
                self.kept[index] = self._checkpoints(folder, self.journals[index].check_lease)
                self.kept[index].keep_until(self.start, self.journals[index].complete)

    def _compile(self) -> None:
        began = time.perf_counter()
        count = len(self.members)
        shared = {**self.pipelines[0].resident, "seed": np.stack([p.resident["seed"] for p in self.pipelines])}
        self.resident = sharing.on_devices(self.layout.replicate, self.layout, shared)
        self.train_step = sharing.once(
            ("members", count, self.lead.signature),
            lambda: programs.compile_members(self.lead, self.pipelines[0], self.state, self.resident, count),
        )
        self.evaluation = Evaluation(self.lead, self.pipelines[0], self.resident, members=count)
        self.evaluation.compile(self.state)
        for journal in self.journals:
            journal.progress["compile_seconds"] += (time.perf_counter() - began) / count

    def _feeds(self, open_: contextlib.ExitStack) -> Iterator[PyTree]:
        """The feeds of all members, stacked and placed."""
        feeds = [open_.enter_context(contextlib.closing(p.train(self.start))) for p in self.pipelines]
        return self.layout.ahead(map(programs.stacked, zip(*feeds, strict=True)), members=True)

    def _loop(self) -> list[dict[str, Any]]:
        for journal in self.journals:
            journal.start_clock()
        with contextlib.ExitStack() as open_:
            self._steps(self._feeds(open_))
        for index in self.active:
            if not self.journals[index].is_begun:  # no step was left to take
                self.journals[index].begun(self.pipelines[index].resident)
        if self.active:  # a member that has its last checkpoint in its own folder needs the group no more
            self._keep(self.active, self.lead.steps)
        for checkpoints in (self.checkpoints, *self.kept.values()):
            checkpoints.wait()
        return self._summaries("finished")

    def _steps(self, feeds: Iterator[PyTree]) -> None:
        """Every step from where the group stands to its end, or until no member is left that counts."""
        lead, rates = self.lead, np.stack([journal.rates for journal in self.journals])
        measured: deque[tuple[int, step.Measures]] = deque()
        idle, logged = 0.0, (self.start, time.perf_counter())
        for done in range(self.start + 1, lead.steps + 1):
            feed, rate = next(feeds), self.layout.replicate(rates[:, done - 1])
            with jax.transfer_guard_host_to_device("disallow"):
                self.state, measures = self.train_step(self.state, self.resident, feed, rate)
            measured.append((done, measures))
            if done == self.start + 1:
                for index in self.active:
                    self.journals[index].begun(self.pipelines[index].resident)
            logging_due, eval_due = lead.due(lead.log_every, done), lead.due(lead.eval_every, done)
            stop = self.asked.is_set()
            save_due = lead.due(lead.save_every, done) or stop
            while len(measured) > (0 if logging_due or eval_due or save_due else loop.IN_FLIGHT):
                self._check(*measured.popleft())
            if not self.active:
                return
            if logging_due:
                self._log(done, done - logged[0], time.perf_counter() - logged[1] - idle)
                logged, idle = (done, time.perf_counter()), 0.0
            paused = time.perf_counter()
            if eval_due:
                self._evaluate(done)
            if save_due:
                self._save(done)
            idle += time.perf_counter() - paused
            if stop and done < lead.steps:
                self._preempt(done)

    def _check(self, at: int, measures: step.Measures) -> None:
        """Wait for a step; members whose loss is no number leave."""
        values = parallel.host(measures)
        for index in list(self.active):
            try:
                self.journals[index].check(at, member_of(values, index))
            except RunFailed as failure:
                self._fail(index, failure)

    def _log(self, done: int, steps: int, seconds: float) -> None:
        statistics = parallel.host(self.state.statistics)
        for index in self.active:
            self.journals[index].trained(done, member_of(statistics, index), steps, seconds)
        self.state = self.state.replace(statistics=self.layout.place(loop.zeros_like(self.state.statistics)))

    def _evaluate(self, done: int) -> None:
        """Evaluate and record; a member that is better than before is kept in its own folder, as a run alone would."""
        values, better = self.evaluation.of_each(self.state), []
        for index in list(self.active):
            journal = self.journals[index]
            try:
                journal.evaluated(done, values[index])
            except RunFailed as failure:
                self._fail(index, failure)
            else:
                better += [index] if journal.is_best(done) else []
        self._keep(better, done)

    def _keep(self, indices: Sequence[int], done: int) -> None:
        """Save members in their own folders, as runs alone: what `eval`, `predict` and `export` read."""
        if not indices:
            return
        current = parallel.host(self.state)
        for index in indices:
            journal = self.journals[index]
            if index not in self.kept:
                self.kept[index] = self._checkpoints(self.members[index].workdir, journal.check_lease)
            journal.tick()
            journal.commit()
            self.kept[index].save(done, member_of(current, index), journal.progress)

    def _save(self, done: int) -> None:
        """Checkpoint the group."""
        for journal in self.journals:
            journal.tick()
        for index in self.active:
            self.journals[index].commit()
        progress = {
            "members": [journal.progress for journal in self.journals],
            "failed": self.failed,
        }
        self.lease.check()
        self.checkpoints.save(done, self.state, progress)

    def _fail(self, index: int, failure: RunFailed) -> None:
        """A member ends here; the step goes on computing it, which changes no other."""
        current = member_of(parallel.host(self.state), index)
        details = {"reason": str(failure), **failure.details}
        self._leave(index, self.journals[index].summary("failed", current, **details))

    def _leave(self, index: int, summary: dict[str, Any]) -> None:
        record.write_json(self.journals[index].workdir / record.SUMMARY, summary)
        self.failed[str(index)] = record.finite(summary)
        self.active.remove(index)

    def _preempt(self, done: int) -> None:
        self._save(done)
        for checkpoints in (self.checkpoints, *self.kept.values()):
            checkpoints.wait()
        self._summaries("preempted")
        raise Preempted(f"preempted at step {done} of {self.lead.steps}; the same command continues")

    def _summaries(self, status: Ended, **more: Any) -> list[dict[str, Any]]:
        """Write the summaries of all that are still there; returns those of all that are recorded."""
        found = dict(self.ended)
        current = parallel.host(self.state) if self.active else None
        for index in self.active:
            found[index] = self.journals[index].summary(status, member_of(current, index), **more)
        found |= {int(index): summary for index, summary in self.failed.items()}
        self.is_over = status == "finished"
        return [found[index] for index in sorted(found)]
