"""Evaluation: every example of a split once, padding masked, statistics merged on the device."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from research import config as configs
from research import data
from research.data.stored import Split
from research.errors import UserError
from research.training import parallel, record, resolve, state, step
from research.training.checkpoint import Checkpoints
from research.training.resolve import Resolved

PyTree = Any


def zeros(resolved: Resolved, pipeline: data.Pipeline, *, train: bool) -> PyTree:
    """The task's statistics of no examples."""
    task, size = resolved.task, resolved.config.data.batch_size
    outputs = jax.ShapeDtypeStruct((size, task.num_outputs), jnp.float32)
    feed = next(iter(pipeline.train(0)))
    batch = jax.eval_shape(lambda r, f: pipeline.fetch(r, f, split="train", augment=False), pipeline.resident, feed)
    shapes = jax.eval_shape(lambda o, b: task.statistics(o, b, train=train), outputs, batch)
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


@dataclass
class Evaluator:
    """Compiled evaluation of one split: every example once, padding masked."""

    resolved: Resolved
    pipeline: data.Pipeline
    resident: PyTree
    split: Split
    compiled: Any = None

    def compile(self, like: state.TrainState) -> None:
        """Compile for states shaped as `like`."""
        layout, task = self.resolved.layout, self.resolved.task
        evaluate = step.eval_step(
            self.resolved.model, task, self.pipeline.fetch, split=self.split, axis_name=layout.axis_name
        )
        feed = next(iter(self._feeds()))
        self._zeros = zeros(self.resolved, self.pipeline, train=False)
        example = (like, self.resident, layout.split(feed), layout.replicate(self._zeros))
        self.compiled = layout.compile_eval(evaluate, *example)

    def __call__(self, current: state.TrainState) -> dict[str, Any]:
        """The task's values over the split."""
        layout = self.resolved.layout
        statistics = layout.replicate(jax.tree.map(jnp.zeros_like, self._zeros))  # fresh: the step consumes them
        for feed in self._feeds():
            statistics = self.compiled(current, self.resident, layout.split(feed), statistics)
        return self.resolved.task.values(parallel.host(statistics))

    def _feeds(self) -> Iterator[PyTree]:
        size = parallel.fit_batch(self.resolved.layout, self.resolved.config.data.eval_batch_size)
        return self.pipeline.evaluate(self.split, size)


def evaluate(workdir: epath.PathLike, *, checkpoint: str = "best", dataset: str | None = None) -> Mapping[str, Any]:
    """Metrics of a checkpoint (`best`, `last` or a step) of a run folder, on its evaluation split or `dataset`'s.

    Images of another data set are normalised as the run's own were. Raises `UserError`: no run there, no such
    checkpoint, a data set of another shape or other classes.
    """
    folder = epath.Path(workdir)
    cfg = configs.from_dict(record.read_json(folder / record.CONFIG))
    resolved = resolve.resolve(cfg)
    checkpoints = Checkpoints(
        folder, cfg.checkpointing, higher_is_better=resolved.task.higher_is_better, read_only=True
    )
    at = checkpoints.find(checkpoint)
    pipeline = data.pipeline(cfg.data, seed=cfg.seed)
    like = state.shapes(resolved.model, resolved.optimizer, resolved.image, zeros(resolved, pipeline, train=True))
    restored, _ = checkpoints.restore(at, resolved.layout.replicated(like))
    resident = pipeline.resident
    if dataset is not None:
        pipeline = _other(resolved, dataset)
        resident = {**pipeline.resident, "mean": resident["mean"], "std": resident["std"]}
    evaluator = Evaluator(resolved, pipeline, resolved.layout.replicate(resident), "eval")
    with resolve.matmul_precision(cfg):
        evaluator.compile(restored)
        values = {"step": at, "dataset": dataset or cfg.data.name, **evaluator(restored)}
    record.write_json(folder / f"eval-{values['dataset'].replace('/', '_')}-{at}.json", values)
    return values


def _other(resolved: Resolved, dataset: str) -> data.Pipeline:
    """The examples of another data set in the form of the run's own. Raises `UserError` where they do not fit it."""
    own = resolved.config.data
    height, _, channels = resolved.info.shape
    cfg = dataclasses.replace(
        own,
        name=dataset,
        path=None,
        resolution=height,
        channels=1 if channels == 1 else 3,
        train_examples=None,
        validation=0.0,
    )
    info = data.info(cfg)
    if (info.shape, info.num_classes) != (resolved.info.shape, resolved.info.num_classes):
        raise UserError(
            f"data set {dataset} has {info.num_classes} classes at {info.shape}; expected those of {own.name}: "
            f"{resolved.info.num_classes} at {resolved.info.shape}"
        )
    return data.pipeline(dataclasses.replace(cfg, batch_size=min(own.batch_size, info.train_examples)), seed=0)
