"""Batch statistics estimated anew from training batches, for weights that the running averages lag behind.

Wu and Johnson 2021, "Rethinking Batch in BatchNorm" (arXiv:2105.07576), section 3: PreciseBN.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.training.state import TrainState
from research.training.step import EvalStep, Fetch, Frozen, Gather, as_in_evaluation

PyTree = Any


def moments_step(
    model: nn.Module,
    fetch: Fetch,
    *,
    axis_name: str | None = None,
    frozen: Frozen = Frozen(),
    gather: Gather = lambda variables: variables,
) -> EvalStep:
    """A function (state, resident, feed, sums) -> sums with the feed's batch statistics added; shaped `batch_stats`.

    Where a layer keeps a mean and a variance, the variance's sum is of the second moment, var + mean^2. `settled` turns
    sums over n batches into statistics. What is `frozen` keeps its own.
    """

    def step(state: TrainState, resident: PyTree, feed: PyTree, sums: PyTree) -> PyTree:
        batch = fetch(resident, feed, split="train", augment=True)
        key = jax.random.fold_in(state.key, feed["index"][0])
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))

        def updated(batch_stats: PyTree) -> PyTree:
            variables = {"params": gather(state.params), "batch_stats": batch_stats}
            rngs = {"dropout": key}
            with as_in_evaluation(frozen.modules):
                applied = model.apply(variables, batch["image"], train=True, rngs=rngs, mutable=["batch_stats"])
            return applied[1]["batch_stats"]

        of_batch = _second_moments(_of_batch(updated, state.batch_stats), 1.0)
        if axis_name is not None:
            of_batch = jax.lax.pmean(of_batch, axis_name)
        return jax.tree.map(jnp.add, sums, of_batch)

    return step


def _of_batch(updated: Callable[[PyTree], PyTree], old: PyTree) -> PyTree:
    """The statistics of one batch, from what a forward pass makes of the `old` running ones.

    A layer stores momentum x old + (1 - momentum) x new: its derivative by the old value is its momentum. Where that is
    1, the layer keeps what it has (it is frozen, say), and so do we; the layers after it see its old values.
    """
    ones = jax.tree.map(jnp.ones_like, old)
    momentum = jax.jvp(updated, (old,), (ones,))[1]
    moving = jax.tree.map(lambda m: jnp.where(m == 1, 0.0, 1.0).astype(m.dtype), momentum)
    stored, momentum = jax.jvp(updated, (old,), (moving,))  # frozen layers move nothing behind them

    def new(stored: jax.Array, old: jax.Array, momentum: jax.Array, moving: jax.Array) -> jax.Array:
        return jnp.where(moving == 1, (stored - momentum * old) / jnp.where(momentum == 1, 1, 1 - momentum), old)

    return jax.tree.map(new, stored, old, momentum, moving)


def settled(sums: PyTree, batches: int) -> PyTree:
    """The batch statistics of a population from `moments_step`'s sums over equally large batches of it.

    Mean of the means, and the variance around it (Wu and Johnson 2021, arXiv:2105.07576, section 3.1).
    """
    return _second_moments(jax.tree.map(lambda x: x / batches, sums), -1.0)


def _second_moments(batch_stats: PyTree, sign: float) -> PyTree:
    """The tree with `sign` x mean^2 added to each `var` that stands beside a `mean`."""
    if not isinstance(batch_stats, dict):
        return batch_stats
    new = {key: _second_moments(value, sign) for key, value in batch_stats.items()}
    if {"mean", "var"} <= new.keys() and not isinstance(new["var"], dict):
        # operators that NumPy's arrays have too: on the host, JAX would compile one program for each shape
        new["var"] = (new["var"] + sign * new["mean"] * new["mean"]).clip(min=0)
    return new
