"""The pure steps: where a model, a task and an optimizer meet. No device, no loop, no side effect.

`axis_name` is the name of a mapped device axis when each replica runs the step on its own shard (pmap, shard_map);
None when the compiler sees the global batch.
"""

import operator
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from research import models
from research.losses import masked_sum
from research.ordering import after
from research.tasks import Task
from research.training import optimizer as optimizers
from research.training.state import TrainState

PyTree = Any
Measures = dict[str, jax.Array]
TrainStep = Callable[[TrainState, PyTree, PyTree, jax.Array], tuple[TrainState, Measures]]
EvalStep = Callable[[TrainState, PyTree, PyTree, PyTree], PyTree]
Fetch = Callable[..., dict[str, jax.Array]]
Gather = Callable[[PyTree], PyTree]  # variables as they are kept -> as they are computed with


@dataclass(frozen=True)
class Frozen:
    """What of a network stays as it is, by the names of its outermost modules.

    `weights` get no gradient. `modules` run as in evaluation: no dropout, and batch statistics that do not move.
    """

    weights: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Parts:
    """How a batch is computed: in `count` parts one after the other, the feed's leading axis where it is above 1.

    `unroll` writes the parts out instead of looping over them: XLA's CPU backend is many times slower at the gradients
    of convolutions inside a loop.
    """

    count: int = 1
    unroll: bool = False


def train_step(
    model: nn.Module,
    task: Task,
    optimizer: optax.GradientTransformation,
    fetch: Fetch,
    *,
    axis_name: str | None = None,
    parts: Parts = Parts(),
    frozen: Frozen = Frozen(),
    gather: Gather = lambda variables: variables,
) -> TrainStep:
    """A function (state, resident, feed, learning_rate) -> (state, measures) that makes one update.

    measures: {"loss", "gradient_norm"}, float32 []: the mean loss over the examples of the global batch whose mask is
    1, and the 2-norm of its gradient before the optimizer. In parts, gradients and losses are added up, so only what
    looks at a whole batch (batch normalisation) differs; running statistics then move once per part.
    Of the state's hyperparameters, `auxiliary_weight` adds that many times the loss of each auxiliary head (what the
    network sows among `intermediates` under a name that begins with `aux`), `ema_decay` is that of the averaged
    weights, and the rest are the task's. They are values: other numbers compile nothing.
    """

    def step(state: TrainState, resident: PyTree, feed: PyTree, rate: jax.Array) -> tuple[TrainState, Measures]:
        numbers = state.hyperparameters
        own = task.with_hyperparameters(numbers)
        mutable = ["batch_stats", *(["intermediates"] if "auxiliary_weight" in numbers else [])]
        key = jax.random.fold_in(state.key, state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        examples = jnp.sum(feed["mask"])
        if axis_name is not None:
            examples = jax.lax.psum(examples, axis_name)
        # An image that could not be read has mask 0: parts and replicas may have different numbers of examples.
        examples = jnp.maximum(examples, 1.0)

        def gradients_of(batch_stats: PyTree, feed: PyTree, key: jax.Array) -> tuple[PyTree, PyTree]:
            batch = fetch(resident, feed, split="train", augment=True)

            def loss_of(params: PyTree) -> tuple[jax.Array, tuple[PyTree, PyTree]]:
                kept = {k: jax.lax.stop_gradient(v) if k in frozen.weights else v for k, v in params.items()}
                variables = gather(state.replace(params=kept, batch_stats=batch_stats).variables)
                rngs = {"dropout": key}
                with as_in_evaluation(frozen.modules):
                    applied = model.apply(variables, batch["image"], train=True, rngs=rngs, mutable=mutable)
                outputs, updated = cast(tuple[jax.Array, PyTree], applied)
                statistics = own.statistics(outputs, batch, train=True)
                losses = own.loss(outputs, batch)
                for auxiliary in _auxiliary(updated):
                    losses += numbers["auxiliary_weight"] * own.loss(auxiliary, batch)
                return masked_sum(losses, batch["mask"]) / examples, (updated, statistics)

            (loss, (updated, statistics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
            return (gradients, loss, statistics), updated.get("batch_stats", {})

        sums, batch_stats = _over_parts(gradients_of, state.batch_stats, feed, key, parts)
        if axis_name is not None:
            sums, batch_stats = jax.lax.psum(sums, axis_name), jax.lax.pmean(batch_stats, axis_name)
        gradients, loss, statistics = sums
        opt_state = optimizers.set_learning_rate(state.opt_state, rate)
        updates, opt_state = optimizer.update(gradients, opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            key=state.key,
            statistics=jax.tree.map(jnp.add, state.statistics, statistics),
            ema=_averaged(state, params, batch_stats),
            hyperparameters=numbers,
        )
        return new, {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}

    return step


def _auxiliary(updated: PyTree) -> list[jax.Array]:
    """Outputs of the auxiliary heads, in order of their names."""
    sown = updated.get("intermediates", {})
    return [leaf for name in sorted(sown) if name.startswith("aux") for leaf in jax.tree.leaves(sown[name])]


@contextmanager
def as_in_evaluation(modules: Collection[str]) -> Iterator[None]:
    """Within this context the outermost modules named run as in evaluation, whatever the network is called with."""

    def evaluated(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        path = context.module.path
        if path and path[0] in modules and context.method_name == "__call__":
            if "train" in keywords:
                keywords = {**keywords, "train": False}
            if isinstance(context.module, nn.BatchNorm):  # the network made this one for this call alone
                object.__setattr__(context.module, "use_running_average", True)
        return call(*arguments, **keywords)

    with nn.intercept_methods(evaluated) if modules else nullcontext():
        yield


def _over_parts(
    gradients_of: Callable[[PyTree, PyTree, jax.Array], tuple[PyTree, PyTree]],
    batch_stats: PyTree,
    feed: PyTree,
    key: jax.Array,
    parts: Parts,
) -> tuple[PyTree, PyTree]:
    """The sums over the parts of a feed, and the batch statistics after the last of them."""
    if parts.count == 1:
        return gradients_of(batch_stats, feed, key)

    def add(carry: tuple[PyTree, PyTree], numbered: tuple[jax.Array, PyTree]) -> tuple[tuple[PyTree, PyTree], None]:
        sums, batch_stats = carry
        number, part = numbered
        more, batch_stats = gradients_of(batch_stats, part, jax.random.fold_in(key, number))
        return (jax.tree.map(jnp.add, sums, more), batch_stats), None

    first = jax.tree.map(lambda x: x[0], feed)
    shapes = jax.eval_shape(gradients_of, batch_stats, first, key)
    carry = (jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes[0]), batch_stats)
    numbered = (jnp.arange(parts.count), feed)
    if not parts.unroll:
        return jax.lax.scan(add, carry, numbered)[0]
    for number in range(parts.count):
        part = jax.tree.map(operator.itemgetter(number), numbered)
        carry, _ = add(carry, after(part, carry) if number else part)
    return carry


def _averaged(state: TrainState, params: PyTree, batch_stats: PyTree) -> PyTree:
    """The running average of weights and batch statistics after an update; empty where there is none.

    Its decay grows as min(ema_decay, (1 + t) / (10 + t)) over the updates t, so that it forgets where it began
    (TensorFlow's ExponentialMovingAverage with num_updates).
    """
    if not state.ema:
        return state.ema
    updates = (state.step + 1).astype(jnp.float32)
    keep = jnp.minimum(state.hyperparameters["ema_decay"], (1.0 + updates) / (10.0 + updates))
    new = {"params": params, "batch_stats": batch_stats}
    # In this form, what does not change stays as it is to the bit.
    return jax.tree.map(lambda average, x: average + (1.0 - keep) * (x - average), state.ema, new)


def of_members(step: Callable[..., PyTree], *, own_feeds: bool) -> Callable[..., PyTree]:
    """A step of a population: state, fourth argument and result have a leading axis of members, and so has the seed.

    Members share the rest of what is resident, and without `own_feeds` the feed. One member's numbers reach no other's.
    """

    def stepped(state: TrainState, resident: PyTree, feed: PyTree, fourth: PyTree) -> PyTree:
        seeds = {key: 0 if key == "seed" else None for key in resident}
        return jax.vmap(step, in_axes=(0, seeds, 0 if own_feeds else None, 0))(state, resident, feed, fourth)

    return stepped


def eval_step(
    model: nn.Module,
    task: Task,
    fetch: Fetch,
    *,
    split: str,
    axis_name: str | None = None,
    gather: Gather = lambda variables: variables,
) -> EvalStep:
    """A function (state, resident, feed, statistics) -> statistics with the feed's examples added; padding counts 0."""

    def step(state: TrainState, resident: PyTree, feed: PyTree, statistics: PyTree) -> PyTree:
        batch = fetch(resident, feed, split=split, augment=False)
        outputs = models.evaluate(model, gather(state.variables), batch["image"])
        seen = task.with_hyperparameters(state.hyperparameters).statistics(outputs, batch, train=False)
        if axis_name is not None:
            seen = jax.lax.psum(seen, axis_name)
        return jax.tree.map(jnp.add, statistics, seen)

    return step
