"""Largest values and sums of the windows of maps, and their derivatives, as operations with a lowering for the CPU.

XLA's CPU backend visits the elements of every window one by one, and sends gradients back through a scatter. Here a
pool is an elementwise function of shifted maps, one for each place in the window, which the compiler vectorises.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching
from jaxtyping import Array, Float

from research.nn.operation import Circumstances, Compute, Operation, Shaped
from research.ordering import apart

LARGEST_WINDOW = 49  # places: above, writing each out costs the compiler more than it saves


@dataclass(frozen=True)
class Windows:
    """Windows over maps; a number for each spatial axis, in pixels. `padding`: before and after."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    def count(self, space: Sequence[int]) -> tuple[int, ...]:
        """How many windows there are over maps of a size."""
        rows = zip(space, self.size, self.strides, self.padding, strict=True)
        return tuple((n + low + high - k) // s + 1 for n, k, s, (low, high) in rows)


def largest(x: Float[Array, "b *space c"], windows: Windows) -> Float[Array, "b *out c"]:
    """The largest value of each window; padding never is. A gradient goes to the first of equal values."""
    return _largest(x, windows=windows)


def total(x: Float[Array, "b *space c"], windows: Windows) -> Float[Array, "b *out c"]:
    """The sum of each window; padding counts as zeros."""
    return _total(x, windows=windows)


# What the operations mean: XLA's own windows, and what JAX makes of them.


def _native_largest(x: Shaped, *, windows: Windows) -> Compute:
    return lambda x: nn.max_pool(x, windows.size, windows.strides, windows.padding)


def _native_total(x: Shaped, *, windows: Windows) -> Compute:
    return lambda x: nn.pooling.pool(x, 0.0, jax.lax.add, windows.size, windows.strides, windows.padding)


def _native_tangent(dx: Shaped, x: Shaped, *, windows: Windows) -> Compute:
    return lambda dx, x: jax.jvp(_native_largest(x, windows=windows), (x,), (dx,))[1]


def _native_cotangent(dy: Shaped, x: Shaped, *, windows: Windows) -> Compute:
    return lambda dy, x: jax.vjp(_native_largest(x, windows=windows), x)[1](dy)[0]


def _native_spread(dy: Shaped, *, windows: Windows, space: tuple[int, ...]) -> Compute:
    x = jax.ShapeDtypeStruct((dy.shape[0], *space, dy.shape[-1]), dy.dtype)
    return lambda dy: jax.linear_transpose(_native_total(x, windows=windows), x)(dy)[0]


# How the CPU computes them.


def _places(windows: Windows) -> list[tuple[int, ...]]:
    """The places in a window, in the order in which the first of equal values wins."""
    return list(itertools.product(*map(range, windows.size)))


def _seen(x: Array, windows: Windows, outside: float) -> list[Array]:
    """For each place in the window, what the windows find there: arrays "b *out c"."""
    pads = [(0, 0, 0), *((low, high, 0) for low, high in windows.padding), (0, 0, 0)]
    padded = jax.lax.pad(x, jnp.asarray(outside, x.dtype), pads)
    rows = list(zip(windows.strides, windows.count(x.shape[1:-1]), strict=True))
    at = ([slice(i, i + (o - 1) * s + 1, s) for i, (s, o) in zip(p, rows, strict=True)] for p in _places(windows))
    return [padded[(slice(None), *slices)] for slices in at]


def _returned(parts: Sequence[Array], windows: Windows, space: Sequence[int]) -> Array:
    """The sum of what each place in the window sends back ("b *out c"), on maps of a size."""
    zero, out = jnp.zeros((), parts[0].dtype), parts[0].shape[1:-1]
    whole = [n + low + high for n, (low, high) in zip(space, windows.padding, strict=True)]
    moved = []
    for place, part in zip(_places(windows), parts, strict=True):
        rows = zip(place, whole, out, windows.strides, strict=True)
        pads = [(p, n - (o - 1) * s - 1 - p, s - 1) for p, n, o, s in rows]
        moved.append(jax.lax.pad(part, zero, [(0, 0, 0), *pads, (0, 0, 0)]))
    crop = [slice(low, low + n) for n, (low, _) in zip(space, windows.padding, strict=True)]
    return functools.reduce(jnp.add, moved)[(slice(None), *crop)]


def _winner(x: Array, windows: Windows) -> Array:
    """For each window the number of the place that holds its largest value, int32 "b *out c"."""

    def found(x: Array) -> Array:
        seen = _seen(x, windows, -math.inf)
        value = functools.reduce(jnp.maximum, seen)
        number = jnp.full(value.shape, len(seen) - 1, jnp.int32)
        for place in range(len(seen) - 2, -1, -1):
            number = jnp.where(seen[place] == value, jnp.int32(place), number)
        return number

    return apart(found, x)  # or the compiler would find it again for every place


def _cpu_largest(x: Array, *, windows: Windows) -> Array:
    return functools.reduce(jnp.maximum, _seen(x, windows, -math.inf))


def _cpu_total(x: Array, *, windows: Windows) -> Array:
    return functools.reduce(jnp.add, _seen(x, windows, 0.0))


def _cpu_tangent(dx: Array, x: Array, *, windows: Windows) -> Array:
    winner, moved = _winner(x, windows), _seen(dx, windows, 0.0)
    return functools.reduce(
        jnp.add, [jnp.where(winner == place, one, jnp.zeros((), dx.dtype)) for place, one in enumerate(moved)]
    )


def _cpu_cotangent(dy: Array, x: Array, *, windows: Windows) -> Array:
    winner = _winner(x, windows)
    parts = [jnp.where(winner == place, dy, jnp.zeros((), dy.dtype)) for place in range(math.prod(windows.size))]
    return _returned(parts, windows, x.shape[1:-1])


def _cpu_spread(dy: Array, *, windows: Windows, space: tuple[int, ...]) -> Array:
    return _returned([dy] * math.prod(windows.size), windows, space)


def _unless_overlapping(circumstances: Circumstances, x: Any, *, windows: Windows) -> Compute | None:
    """Sums of overlapping windows with a stride: gathering every stride-th position is the slower way."""
    if any(1 < s < k for s, k in zip(windows.strides, windows.size, strict=True)):
        return None
    return _unless_large(_cpu_total)(circumstances, x, windows=windows)


def _unless_large(compute: Callable[..., Array]) -> Callable[..., Compute | None]:
    def chosen(circumstances: Circumstances, *shapes: Any, windows: Windows, **static: Any) -> Compute | None:
        if math.prod(windows.size) > LARGEST_WINDOW or any(0 in s.shape for s in shapes):
            return None
        return functools.partial(compute, windows=windows, **static)

    return chosen


_largest = Operation("max_pool", _native_largest, _unless_large(_cpu_largest))
_tangent = Operation("max_pool_tangent", _native_tangent, _unless_large(_cpu_tangent))
_cotangent = Operation("max_pool_cotangent", _native_cotangent, _unless_large(_cpu_cotangent))
_total = Operation("sum_pool", _native_total, _unless_overlapping)
_spread = Operation("sum_pool_transposed", _native_spread, _unless_large(_cpu_spread))


# Derivatives: where the largest value lies does not move with small changes.


def _of_largest(primals: Any, tangents: Any, *, windows: Windows, jaxpr: Any) -> tuple[Array, Any]:
    (x,), (dx,) = primals, tangents
    return _largest(x, windows=windows), _tangent(ad.instantiate_zeros(dx), x, windows=windows)


ad.primitive_jvps[_largest.primitive] = _of_largest
ad.defjvp(_tangent.primitive, lambda t, dx, x, *, windows, jaxpr: _tangent(t, x, windows=windows), None)
ad.defjvp(_cotangent.primitive, lambda t, dy, x, *, windows, jaxpr: _cotangent(t, x, windows=windows), None)
ad.primitive_transposes[_tangent.primitive] = lambda t, dx, x, *, windows, jaxpr: [
    _cotangent(t, x, windows=windows),
    None,
]
ad.primitive_transposes[_cotangent.primitive] = lambda t, dy, x, *, windows, jaxpr: [
    _tangent(t, x, windows=windows),
    None,
]
ad.deflinear2(_total.primitive, lambda t, x, *, windows, jaxpr: [_spread(t, windows=windows, space=x.aval.shape[1:-1])])
ad.deflinear2(_spread.primitive, lambda t, dy, *, windows, space, jaxpr: [_total(t, windows=windows)])


def _batched(operation: Operation) -> Callable[..., tuple[Array, int]]:
    """A batch of batches is a larger batch."""

    def rule(operands: Sequence[Array], axes: Sequence[int | None], *, jaxpr: Any, **static: Any) -> tuple[Array, int]:
        size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
        leading = (
            jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
            for x, axis in zip(operands, axes, strict=True)
        )
        made = operation(*(x.reshape(-1, *x.shape[2:]) for x in leading), **static)
        return made.reshape(size, -1, *made.shape[1:]), 0

    return rule


for _operation in (_largest, _tangent, _cotangent, _total, _spread):
    batching.primitive_batchers[_operation.primitive] = _batched(_operation)
