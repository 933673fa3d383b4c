"""What a run compiles and starts from, put together from what its config resolved to: the train step and its state."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import data
from research.training import optimizer, parallel, sharing, state, step, transfer
from research.training.resolve import Resolved

PyTree = Any


def example_feed(pipeline: data.Pipeline, batch_size: int | None = None) -> data.Feed:
    """A feed of zeros with the shapes of the pipeline's, for a batch of `batch_size` (default: that of training)."""
    rows = batch_size and batch_size // parallel.this_host().count
    return {k: np.zeros((rows or x.shape[0], *x.shape[1:]), x.dtype) for k, x in pipeline.feed_shapes.items()}


def pipeline_of(resolved: Resolved) -> data.Pipeline:
    """The run's examples. A resident set that the run before in this process had is not read again."""
    cfg, host = resolved.config, parallel.this_host(resolved.layout.parts)
    if data.input_of(resolved.data, cfg.augmentation) == "streaming":
        return data.pipeline(resolved.data, cfg.augmentation, seed=cfg.seed, host=host)
    read = dataclasses.replace(resolved.data, batch_size=1, eval_batch_size=1)  # by whichever batch it is then fed
    key = read, data.fingerprint(resolved.data), host
    kept = sharing.latest("data", key, lambda: data.resident(resolved.data, cfg.augmentation, seed=cfg.seed, host=host))
    return kept.of_run(resolved.data, cfg.augmentation, cfg.seed)


def zeros(resolved: Resolved, pipeline: data.Pipeline, *, train: bool) -> PyTree:
    """The task's statistics of no examples."""
    key = "zeros", train, resolved.signature, pipeline.info
    return sharing.once(key, lambda: _zeros(resolved, pipeline, train))


def _zeros(resolved: Resolved, pipeline: data.Pipeline, train: bool) -> PyTree:
    task, feed = resolved.task, pipeline.feed_shapes
    outputs = jax.ShapeDtypeStruct((*feed["mask"].shape, task.num_outputs), jnp.float32)
    batch = jax.eval_shape(lambda r, f: pipeline.fetch(r, f, split="train", augment=train), pipeline.resident, feed)
    shapes = jax.eval_shape(lambda o, b: task.statistics(o, b, train=train), outputs, batch)
    return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)


def _initialiser(resolved: Resolved, pipeline: data.Pipeline) -> Callable[[jax.Array], state.TrainState]:
    """The function (key) -> state of every run with this signature, with the numbers of this one."""
    zero = zeros(resolved, pipeline, train=True)
    numbers = resolved.hyperparameters
    ema = "ema_decay" in numbers
    return state.initialiser(resolved.model, resolved.optimizer, resolved.image, zero, ema=ema, hyperparameters=numbers)


def state_shapes(resolved: Resolved, pipeline: data.Pipeline) -> state.TrainState:
    """The shapes of the run's state, placed as the run keeps it: what a checkpoint is restored into."""
    init = _initialiser(resolved, pipeline)
    return resolved.layout.placed(jax.eval_shape(init, jax.random.PRNGKey(0)))


def new_state(resolved: Resolved, pipeline: data.Pipeline) -> state.TrainState:
    """The state that the run begins with, placed."""
    cfg = resolved.config
    init = sharing.once(("init", resolved.signature), lambda: state.compile_init(_initialiser(resolved, pipeline)))
    made = init(jax.random.PRNGKey(cfg.seed))
    made = made.replace(  # of whichever run it was compiled for
        opt_state=optimizer.with_numbers(made.opt_state, optimizer.numbers(cfg.optimizer)),
        hyperparameters={name: jnp.float32(number) for name, number in resolved.hyperparameters.items()},
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
        frozen=resolved.frozen,
        gather=resolved.layout.gathered,
    )


def train_arguments(resolved: Resolved, pipeline: data.Pipeline) -> tuple[PyTree, PyTree, PyTree, PyTree]:
    """The shapes of the train step's arguments (state, resident, feed, learning rate), placed as a run places them."""
    layout = resolved.layout
    feed = layout.fed(pipeline.feed_shapes, parts=layout.parts)
    rate = layout.replicated(jax.ShapeDtypeStruct((), jnp.float32))
    return state_shapes(resolved, pipeline), layout.replicated(pipeline.resident), feed, rate


def compile_train(
    resolved: Resolved, pipeline: data.Pipeline, like: state.TrainState, resident: PyTree
) -> jax.stages.Compiled:
    """The run's compiled train step, for states and resident arrays as given or of their shapes."""
    _, _, feed, rate = train_arguments(resolved, pipeline)
    return resolved.layout.compile_train(train_step(resolved, pipeline), like, resident, feed, rate)


def stacked(trees: Sequence[PyTree]) -> PyTree:
    """Pytrees of the same shapes as one, on the host: the leading axis of its arrays is that of the trees."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)


def compile_members(
    resolved: Resolved, pipeline: data.Pipeline, like: state.TrainState, resident: PyTree, members: int
) -> jax.stages.Compiled:
    """The compiled train step of a population of `members` runs, stacked as `step.of_members` takes them."""
    layout = resolved.layout
    feed = layout.split(stacked([example_feed(pipeline)] * members), members=True)
    rates = layout.replicate(np.zeros(members, np.float32))
    together = step.of_members(train_step(resolved, pipeline), own_feeds=True)
    return layout.compile_train(together, like, resident, feed, rates, members=True)
