"""The pure steps: where a model, a task and an optimizer meet. No device, no loop, no side effect.

`axis_name` is the name of a mapped device axis when each replica runs the step on its own shard (pmap, shard_map);
None when the compiler sees the global batch.
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from research.losses import masked_mean
from research.tasks import Task
from research.training import optimizer as optimizers
from research.training.state import TrainState

PyTree = Any
TrainStep = Callable[[TrainState, PyTree, PyTree, jax.Array], tuple[TrainState, jax.Array]]
EvalStep = Callable[[TrainState, PyTree, PyTree, PyTree], PyTree]
Fetch = Callable[..., dict[str, jax.Array]]


def train_step(
    model: nn.Module, task: Task, optimizer: optax.GradientTransformation, fetch: Fetch, *, axis_name: str | None = None
) -> TrainStep:
    """A function (state, resident, feed, learning_rate) -> (state, loss); loss: float32 [], over the global batch."""

    def step(state: TrainState, resident: PyTree, feed: PyTree, rate: jax.Array) -> tuple[TrainState, jax.Array]:
        batch = fetch(resident, feed, split="train", augment=True)
        dropout_key = jax.random.fold_in(state.key, state.step)
        if axis_name is not None:
            dropout_key = jax.random.fold_in(dropout_key, jax.lax.axis_index(axis_name))

        def loss_of(params: PyTree) -> tuple[jax.Array, tuple[PyTree, PyTree]]:
            variables = state.replace(params=params).variables
            rngs = {"dropout": dropout_key}
            applied = model.apply(variables, batch["image"], train=True, rngs=rngs, mutable=["batch_stats"])
            outputs, updated = cast(tuple[jax.Array, PyTree], applied)
            statistics = task.statistics(outputs, batch, train=True)
            return masked_mean(task.loss(outputs, batch), batch["mask"]), (updated, statistics)

        (loss, (updated, statistics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        batch_stats = updated.get("batch_stats", {})
        if axis_name is not None:
            gradients, batch_stats, loss = jax.lax.pmean((gradients, batch_stats, loss), axis_name)
            statistics = jax.lax.psum(statistics, axis_name)
        opt_state = optimizers.set_learning_rate(state.opt_state, rate)
        updates, opt_state = optimizer.update(gradients, opt_state, state.params)
        new = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
            key=state.key,
            statistics=jax.tree.map(jnp.add, state.statistics, statistics),
        )
        return new, loss

    return step


def eval_step(model: nn.Module, task: Task, fetch: Fetch, *, split: str, axis_name: str | None = None) -> EvalStep:
    """A function (state, resident, feed, statistics) -> statistics with the feed's examples added; padding counts 0."""

    def step(state: TrainState, resident: PyTree, feed: PyTree, statistics: PyTree) -> PyTree:
        batch = fetch(resident, feed, split=split, augment=False)
        outputs = cast(jax.Array, model.apply(state.variables, batch["image"], train=False))
        seen = task.statistics(outputs, batch, train=False)
        if axis_name is not None:
            seen = jax.lax.psum(seen, axis_name)
        return jax.tree.map(jnp.add, statistics, seen)

    return step
