"""Evaluation: every example of a split once, padding masked, statistics merged on the device."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from research import config as configs
from research import data
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
    split: str
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

    Raises `UserError`: no run there, no such checkpoint, a data set of another shape or other classes.
    """
    folder = epath.Path(workdir)
    cfg = configs.from_dict(record.read_json(folder / record.CONFIG))
    if dataset is not None:
        cfg = configs.replace(cfg, **{"data.name": dataset})
    resolved = resolve.resolve(cfg)
    checkpoints = Checkpoints(
        folder, cfg.checkpointing, higher_is_better=resolved.task.higher_is_better, read_only=True
    )
    at = checkpoints.find(checkpoint)
    pipeline = data.pipeline(cfg.data, seed=cfg.seed)
    zero = zeros(resolved, pipeline, train=True)
    like = jax.eval_shape(lambda: state.create(resolved.model, resolved.optimizer, resolved.image, zero, cfg.seed))
    restored, _ = checkpoints.restore(at, resolved.layout.replicated(like))
    restored = resolved.layout.replicate(restored)
    evaluator = Evaluator(resolved, pipeline, resolved.layout.replicate(pipeline.resident), "eval")
    with resolve.matmul_precision(cfg):
        evaluator.compile(restored)
        values = {"step": at, "dataset": cfg.data.name, **evaluator(restored)}
    record.write_json(folder / f"eval-{cfg.data.name.replace('/', '_')}-{at}.json", values)
    return values
