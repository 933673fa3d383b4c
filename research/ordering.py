"""Order that the compiler must keep, for the sake of memory: compute this only when that is done."""

from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


def after(values: PyTree, done: PyTree) -> PyTree:
    """`values`, bit for bit, none of which is used before each array of `done` is there.

    An optimization barrier, which XLA's CPU backend drops before it schedules: there, values minus a zero that it
    cannot know to be one (numbers below 1e-38 become 0 there, as in any operation). Where `done` holds a nan, so do
    the values.
    """

    def barrier(values: PyTree, done: PyTree) -> PyTree:
        return jax.lax.optimization_barrier((values, done))[0]

    def dependence(values: PyTree, done: PyTree) -> PyTree:
        seen = [jnp.abs(leaf.ravel()[0].astype(jnp.float32)) for leaf in jax.tree.leaves(done) if leaf.size]
        zero = jnp.minimum(jnp.max(jnp.stack(seen)), 0.0)
        return jax.tree.map(lambda x: x - zero.astype(x.dtype), values)

    return jax.lax.platform_dependent(values, done, cpu=dependence, default=barrier)
