"""What the compiler must keep apart, for the sake of memory or time: this only when that is done, this once.

Its CPU backend drops optimization barriers, so there other means stand in for them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


def after(values: PyTree, done: PyTree) -> PyTree:
    """`values`, bit for bit, of which no number is used before each array of `done` is there.

    An optimization barrier, which XLA's CPU backend drops before it schedules: there, numbers minus a zero that it
    cannot know to be one. (Those below 1e-38 become 0 there, as in any operation; a nan in `done` may spread.) Leaves
    that hold no numbers (random keys, empty tangents) are passed on as they are.
    """
    waited = [leaf for leaf in jax.tree.leaves(done) if _is_number(leaf) and leaf.size]
    if not waited:
        return values

    def barrier(values: PyTree, waited: PyTree) -> PyTree:
        return jax.lax.optimization_barrier((values, waited))[0]

    def dependence(values: PyTree, waited: PyTree) -> PyTree:
        seen = [jnp.abs(leaf.ravel()[0].astype(jnp.float32)) for leaf in waited]
        zero = jnp.minimum(jnp.max(jnp.stack(seen)), 0.0)
        return jax.tree.map(lambda x: x - zero.astype(x.dtype) if _is_number(x) else x, values)

    return jax.lax.platform_dependent(values, waited, cpu=dependence, default=barrier)


def _is_number(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.number)


def apart(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """`function(x)`, written to memory once, whatever uses it: XLA does not fuse across what this becomes.

    Its CPU backend drops optimization barriers before it fuses, and a fusion computes what it uses at several places
    again for each; a branch whose condition depends on data stays. (No number is above infinity, so the other branch
    is never taken.) Not for differentiation: for what an operation's lowering computes.
    """
    never = jnp.ravel(x)[0].astype(jnp.float32) > jnp.inf
    made = jax.eval_shape(function, x)
    return jax.lax.cond(never, lambda _: jnp.zeros(made.shape, made.dtype), function, x)
