"""Evaluation: every example of a split once, padding masked, statistics merged on the device."""

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath

from research import data, storage
from research.data.stored import Split
from research.errors import UserError
from research.training import batch_statistics, parallel, programs, record, resolve, sharing, state, step
from research.training.checkpoint import Checkpoints
from research.training.resolve import Resolved

PyTree = Any


@dataclass
class Evaluator:
    """Compiled evaluation of one split: every example once, padding masked."""

    resolved: Resolved
    pipeline: data.Pipeline
    resident: PyTree
    split: Split
    compiled: Any = None
    members: int = 0  # of a population, whose states have a leading axis of them; 0: one run

    def compile(self, like: state.TrainState) -> None:
        """Compile for states shaped as `like`."""
        self._zeros = programs.zeros(self.resolved, self.pipeline, train=False)
        if self.members:
            self._zeros = jax.tree.map(lambda x: np.stack([x] * self.members), self._zeros)
        key = "eval", self.split, self.resolved.signature, self.pipeline.info, self.members
        self.compiled = sharing.once(key, lambda: self._compile(like))

    def _compile(self, like: state.TrainState) -> jax.stages.Compiled:
        layout, task = self.resolved.layout, self.resolved.task
        evaluate = step.eval_step(
            self.resolved.model,
            task,
            self.pipeline.fetch,
            split=self.split,
            axis_name=layout.axis_name,
            gather=layout.gathered,
        )
        if self.members:
            evaluate = step.of_members(evaluate, own_feeds=False)
        feed = programs.example_feed(self.pipeline, self._batch_size)
        example = (like, self.resident, layout.split(feed), layout.replicate(self._zeros))
        return layout.compile_eval(evaluate, *example)

    def __call__(self, current: state.TrainState) -> list[dict[str, Any]]:
        """The task's values over the split, of each member."""
        layout = self.resolved.layout
        statistics = layout.replicate(jax.tree.map(np.zeros_like, self._zeros))  # fresh: the step consumes them
        with contextlib.closing(self.pipeline.evaluate(self.split, self._batch_size)) as feeds:
            for feed in feeds:
                statistics = self.compiled(current, self.resident, layout.split(feed), statistics)
        sums = parallel.host(statistics)
        each = [jax.tree.map(lambda x, i=i: x[i], sums) for i in range(self.members)] if self.members else [sums]
        return [self.resolved.task.values(of_member) for of_member in each]

    @property
    def _batch_size(self) -> int:
        return parallel.fit_batch(self.resolved.layout, self.resolved.config.data.eval_batch_size)


@dataclass
class Reestimator:
    """Compiled estimation of batch statistics from the run's first training batches (`batch_statistics`)."""

    resolved: Resolved
    pipeline: data.Pipeline
    resident: PyTree

    def compile(self, like: state.TrainState) -> None:
        """Compile for states shaped as `like`."""
        self.compiled = sharing.once(("moments", self.resolved.signature), lambda: self._compile(like))

    def _compile(self, like: state.TrainState) -> jax.stages.Compiled:
        layout = self.resolved.layout
        model = self.resolved.model
        if getattr(model, "remat", False):  # there is no backward pass here
            model = model.clone(remat=False)
        moments = batch_statistics.moments_step(
            model,
            self.pipeline.fetch,
            axis_name=layout.axis_name,
            frozen=self.resolved.frozen,
            gather=layout.gathered,
        )
        feed = layout.split(programs.example_feed(self.pipeline))
        return layout.compile_eval(moments, like, self.resident, feed, self._zeros(like))

    def __call__(self, current: state.TrainState) -> state.TrainState:
        """`current` with statistics that belong to its weights."""
        batches, sums = self.resolved.config.evaluation.batch_norm_batches, self._zeros(current)
        with contextlib.closing(self.pipeline.train(0)) as feeds:
            for feed in itertools.islice(feeds, batches):
                sums = self.compiled(current, self.resident, self.resolved.layout.split(feed), sums)
        found = batch_statistics.settled(parallel.host(sums), batches)
        placed = self.resolved.layout.place(found)
        # To the bit: through sums and squares they would come back rounded.
        kept = {name: x for name, x in current.batch_stats.items() if name in self.resolved.frozen.modules}
        return current.replace(batch_stats={**placed, **kept})

    def _zeros(self, like: state.TrainState) -> PyTree:
        return self.resolved.layout.replicate(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like.batch_stats))


class Evaluation:
    """All that is evaluated of a state: `eval`, `eval_train` where asked for, and `eval_ema` of the averaged weights.

    `other`: pipeline and placed arrays of another data set, whose evaluation split then takes the place of the run's.
    `train` False leaves `eval_train` out; `members`: as of `Evaluator`.
    """

    def __init__(
        self,
        resolved: Resolved,
        pipeline: data.Pipeline,
        resident: PyTree,
        other: tuple[data.Pipeline, PyTree] | None = None,
        *,
        train: bool = True,
        members: int = 0,
    ) -> None:
        cfg = resolved.config
        self._ema = bool(cfg.optimizer.ema_decay)
        self._evaluators = {"eval": Evaluator(resolved, *(other or (pipeline, resident)), "eval", members=members)}
        if cfg.data.eval_on_train and train:
            self._evaluators["eval_train"] = Evaluator(resolved, pipeline, resident, "train", members=members)
        reestimate = cfg.evaluation.batch_norm_batches > 0
        self._reestimator = Reestimator(resolved, pipeline, resident) if reestimate else None
        self.statistics: PyTree | None = None  # estimated anew in the last call, of the averaged weights if there are

    def compile(self, like: state.TrainState) -> None:
        """Compile for states shaped as `like`."""
        for evaluator in self._evaluators.values():
            evaluator.compile(like)
        if self._reestimator is not None:
            self._reestimator.compile(like)

    def __call__(self, current: state.TrainState) -> dict[str, dict[str, Any]]:
        """Prefix -> the task's values, of one run."""
        return self.of_each(current)[0]

    def of_each(self, current: state.TrainState) -> list[dict[str, dict[str, Any]]]:
        """Prefix -> the task's values, of each member."""
        settled = self._settled(current)
        values = {prefix: evaluator(settled) for prefix, evaluator in self._evaluators.items()}
        if self._ema:
            settled = self._settled(current.averaged)
            values["eval_ema"] = self._evaluators["eval"](settled)
        self.statistics = None if self._reestimator is None else settled.batch_stats
        return [dict(zip(values, found, strict=True)) for found in zip(*values.values(), strict=True)]

    def _settled(self, current: state.TrainState) -> state.TrainState:
        return current if self._reestimator is None else self._reestimator(current)


def evaluate(workdir: epath.PathLike, *, checkpoint: str = "best", dataset: str | None = None) -> Mapping[str, Any]:
    """Metrics of a checkpoint (`best`, `last` or a step) of a run folder, on its evaluation split or `dataset`'s.

    Images of another data set are normalised as the run's own were. Raises `UserError`: no run there, no such
    checkpoint, a data set of another shape or other classes.
    """
    folder = storage.reach(workdir)
    cfg = record.config_of(folder)
    record.check_workdir(folder)
    resolved = resolve.resolve(cfg)
    layout = resolved.layout
    with contextlib.closing(Checkpoints(folder, cfg.checkpointing, read_only=True)) as checkpoints:
        at = checkpoints.find(checkpoint)
        pipeline = programs.pipeline_of(resolved)
        restored, _ = checkpoints.restore(at, programs.state_shapes(resolved, pipeline))
    other = None
    if dataset is not None:
        pipeline_ = _other(resolved, dataset, pipeline)
        other = pipeline_, layout.replicate(pipeline_.resident)
    evaluation = Evaluation(resolved, pipeline, layout.replicate(pipeline.resident), other, train=False)
    with resolve.matmul_precision(cfg):
        evaluation.compile(restored)
        found = evaluation(restored)
    values = {"step": at, "dataset": dataset or cfg.data.name, **found["eval"]}
    values |= {f"ema/{key}": value for key, value in found.get("eval_ema", {}).items()}
    record.write_json(folder / f"eval-{values['dataset'].replace('/', '_')}-{at}.json", values)
    return values


def _other(resolved: Resolved, dataset: str, pipeline: data.Pipeline) -> data.Pipeline:
    """The examples of another data set in the form of the run's own. Raises `UserError` where they do not fit it."""
    own = resolved.data
    height, _, channels = resolved.info.shape
    cfg = dataclasses.replace(
        own,
        name=dataset,
        path=None,
        resolution=height,
        channels=1 if channels == 1 else 3,
        mean=tuple(pipeline.resident["mean"].tolist()),
        std=tuple(pipeline.resident["std"].tolist()),
        train_examples=None,
        validation=0.0,
    )
    info = data.info(cfg)
    if (info.shape, info.num_classes) != (resolved.info.shape, resolved.info.num_classes):
        raise UserError(
            f"data set {dataset} has {info.num_classes} classes at {info.shape}; expected those of {own.name}: "
            f"{resolved.info.num_classes} at {resolved.info.shape}"
        )
    return data.pipeline(cfg, seed=0, host=parallel.this_host())
