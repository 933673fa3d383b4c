"""What a run compiles and starts from, put together from what its config resolved to: the train step and its state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import data
from research.training import state, step, transfer
from research.training.resolve import Resolved

PyTree = Any


def example_feed(pipeline: data.Pipeline, batch_size: int | None = None) -> data.Feed:
    """A feed of zeros with the shapes of the pipeline's, for a batch of `batch_size` (default: that of training)."""
    shapes = pipeline.feed_shapes
    return {k: np.zeros((batch_size or x.shape[0], *x.shape[1:]), x.dtype) for k, x in shapes.items()}


def zeros(resolved: Resolved, pipeline: data.Pipeline, *, train: bool) -> PyTree:
    """The task's statistics of no examples."""
    task, feed = resolved.task, example_feed(pipeline)
    outputs = jax.ShapeDtypeStruct((len(feed["mask"]), task.num_outputs), jnp.float32)
    batch = jax.eval_shape(lambda r, f: pipeline.fetch(r, f, split="train", augment=train), pipeline.resident, feed)
    shapes = jax.eval_shape(lambda o, b: task.statistics(o, b, train=train), outputs, batch)
    return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)


def state_shapes(resolved: Resolved, pipeline: data.Pipeline) -> state.TrainState:
    """The shapes of the run's state, placed as the run keeps it: what a checkpoint is restored into."""
    parts = (resolved.model, resolved.optimizer, resolved.image, zeros(resolved, pipeline, train=True))
    return resolved.layout.placed(state.shapes(*parts, ema=bool(resolved.config.optimizer.ema_decay)))


def new_state(resolved: Resolved, pipeline: data.Pipeline) -> state.TrainState:
    """The state that the run begins with, placed."""
    cfg, zero = resolved.config, zeros(resolved, pipeline, train=True)
    made = state.create(
        resolved.model, resolved.optimizer, resolved.image, zero, cfg.seed, ema=bool(cfg.optimizer.ema_decay)
    )
    if (weights := transfer.weights_of(cfg)) is not None:
        fresh = {"params": made.params, "batch_stats": made.batch_stats}
        started = transfer.start(fresh, weights, keep_head=cfg.transfer.head == "auto")
        made = made.replace(**started, ema=started if made.ema else made.ema)
    return resolved.layout.place(made)


def train_step(resolved: Resolved, pipeline: data.Pipeline) -> step.TrainStep:
    """The run's train step, not compiled."""
    return step.train_step(
        resolved.model,
        resolved.task,
        resolved.optimizer,
        pipeline.fetch,
        axis_name=resolved.layout.axis_name,
        parts=resolved.layout.step_parts,
        ema_decay=resolved.config.optimizer.ema_decay,
        auxiliary_weight=resolved.auxiliary_weight,
        frozen=resolved.frozen,
    )


def compile_train(
    resolved: Resolved, pipeline: data.Pipeline, like: state.TrainState, resident: PyTree
) -> jax.stages.Compiled:
    """The run's compiled train step, for states and resident arrays as given or of their shapes."""
    layout = resolved.layout
    feed = layout.split(example_feed(pipeline), parts=layout.parts)
    rate = layout.replicate(np.float32(0))
    return layout.compile_train(train_step(resolved, pipeline), like, resident, feed, rate)
