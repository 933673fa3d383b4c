"""Sums over all positions of maps, and the values that all positions share: linear, and each the other's transpose.

XLA's CPU backend sums over all axes but the last at a small part of the memory's speed (a tenth and less); a product
with a vector of ones runs at that speed. Batch normalisation and the gradients of biases are such sums.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching
from jaxtyping import Array, Float

from research.nn import onednn
from research.nn.operation import Circumstances, Compute, Operation, Shaped

FOLD = 16  # parts that are added to each other in one pass, at most


def over_positions(x: Float[Array, "*positions c"]) -> Float[Array, " c"]:
    """The sum of `x` over all axes but the last, in its own type."""
    return _total(x, kept=0)


def over_space(x: Float[Array, "b *space c"]) -> Float[Array, "b c"]:
    """The sum of `x` over all axes but the first and the last, in its own type."""
    return _total(x, kept=1)


def at_positions(values: Float[Array, " c"], shape: Sequence[int]) -> Float[Array, "*positions c"]:
    """`values` at every position of an array of `shape`, whose last axis is theirs."""
    return _share(values, shape=tuple(shape), kept=0)


def _sum(x: Shaped, *, kept: int) -> Compute:
    """Native: the sum over the axes between the first `kept` and the last."""
    return lambda x: jnp.sum(x, axis=tuple(range(kept, x.ndim - 1)))


def _broadcast(values: Shaped, *, shape: tuple[int, ...], kept: int) -> Compute:
    """Native: the first `kept` axes and the last are those of `values`."""
    return lambda values: jax.lax.broadcast_in_dim(values, shape, (*range(kept), len(shape) - 1))


def _product(circumstances: Circumstances, x: Shaped, *, kept: int) -> Compute | None:
    positions = math.prod(x.shape[kept:-1])
    if x.dtype != jnp.float32 or positions < 2 or x.size == 0:
        return None
    if kept:
        return functools.partial(_folded, kept=kept)
    # In two levels: shorter sums have smaller errors, and wider products keep all cores busy.
    inner = math.gcd(positions, 64)
    outer = positions // inner

    def product(x: Array) -> Array:
        rows, ones = x.reshape(outer, inner * x.shape[-1]), jnp.ones((outer, 1), x.dtype)
        if circumstances.library:
            sums = onednn.product(ones, rows)
        else:
            sums = jax.lax.dot_general(ones, rows, (((0,), (0,)), ((), ())))
        return sums.reshape(inner, -1).sum(0)

    return product


def _folded(x: Array, kept: int) -> Array:
    """Parts of the positions added to each other, again and again: each time one pass over what is left."""
    members, channels = x.shape[:kept], x.shape[-1]
    x = x.reshape(math.prod(members), -1, channels)
    while x.shape[1] > 1:
        parts = next((n for n in range(min(FOLD, x.shape[1]), 1, -1) if x.shape[1] % n == 0), 1)
        if parts == 1:  # a large prime
            x = x.sum(1, keepdims=True)
            break
        split = x.reshape(x.shape[0], parts, -1, channels)
        x = functools.reduce(jnp.add, [split[:, part] for part in range(parts)])
    return x.reshape(*members, channels)


_total = Operation("sum_over_positions", _sum, _product)
_share = Operation("values_at_positions", _broadcast, lambda *_, **__: None)


def _total_transposed(cotangent: Array, x: Any, *, kept: int, jaxpr: Any) -> list[Array]:
    return [_share(cotangent, shape=tuple(x.aval.shape), kept=kept)]


def _share_transposed(cotangent: Array, values: Any, *, shape: Any, kept: int, jaxpr: Any) -> list[Array]:
    return [_total(cotangent, kept=kept)]


def _total_batched(operands: Any, axes: Any, *, kept: int, jaxpr: Any) -> tuple[Array, int]:
    return _total(jnp.moveaxis(operands[0], axes[0], 0), kept=kept + 1), 0


def _share_batched(operands: Any, axes: Any, *, shape: Any, kept: int, jaxpr: Any) -> tuple[Array, int]:
    values = jnp.moveaxis(operands[0], axes[0], 0)
    return _share(values, shape=(values.shape[0], *shape), kept=kept + 1), 0


ad.deflinear2(_total.primitive, _total_transposed)
ad.deflinear2(_share.primitive, _share_transposed)
batching.primitive_batchers[_total.primitive] = _total_batched
batching.primitive_batchers[_share.primitive] = _share_batched
