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


@dataclass(frozen=True)
class _Axis:
    """One axis of windows over maps. Positions count with the padding before them."""

    positions: int
    size: int
    stride: int
    low: int  # padding before
    count: int  # of windows

    @property
    def covering(self) -> int:
        """How many windows a position can lie in: window p // stride and those before it."""
        return -(-self.size // self.stride)

    @property
    def groups(self) -> int:
        """How many values p // stride has for the positions that are asked for."""
        return (self.low + self.positions - 1) // self.stride + 1


def _returned(dy: Array, windows: Windows, space: Sequence[int], winner: Array | None = None) -> Array:
    """What windows send back onto maps of a size: to each of their places, or only to the one that is `winner`.

    Written as what each position finds in the windows that cover it, one after the other, so that it is one loop which
    writes every position once. Position p lies at place p % stride + j stride of window p // stride - j.
    """
    rank, zero = dy.ndim - 2, jnp.zeros((), dy.dtype)
    rows = zip(space, windows.size, windows.strides, windows.padding, windows.count(space), strict=True)
    axes = [_Axis(n, k, s, low, count) for n, k, s, (low, _), count in rows]
    pads = [(0, 0, 0), *((a.covering - 1, max(0, a.groups - a.count), 0) for a in axes), (0, 0, 0)]
    wide = (dy.shape[0], *itertools.chain(*((a.groups, a.stride) for a in axes)), dy.shape[-1])

    def found(x: Array, back: Sequence[int]) -> Array:
        at = [slice(a.covering - 1 - j, a.covering - 1 - j + a.groups) for a, j in zip(axes, back, strict=True)]
        return jax.lax.broadcast_in_dim(x[(slice(None), *at)], wide, (0, *range(1, 2 * rank, 2), 2 * rank + 1))

    sent = apart(lambda dy: jax.lax.pad(dy, zero, pads), dy)
    numbers = None if winner is None else apart(lambda winner: jax.lax.pad(winner, jnp.int32(-1), pads), winner)
    parts = []
    for back in itertools.product(*(range(a.covering) for a in axes)):
        places = [_place(axis, j, wide, 2 + 2 * i) for i, (axis, j) in enumerate(zip(axes, back, strict=True))]
        inside = [place < a.size for place, a in zip(places, axes, strict=True) if a.size % a.stride]
        if numbers is not None:
            number: Array | int = 0
            for a, place in zip(axes, places, strict=True):
                number = number * a.size + place
            inside.append(found(numbers, back) == number)
        part = found(sent, back)
        parts.append(jnp.where(functools.reduce(jnp.logical_and, inside), part, zero) if inside else part)
    whole = functools.reduce(jnp.add, parts)
    whole = whole.reshape(dy.shape[0], *(a.groups * a.stride for a in axes), dy.shape[-1])
    return whole[(slice(None), *(slice(a.low, a.low + a.positions) for a in axes))]


def _place(axis: _Axis, back: int, shape: Sequence[int], dimension: int) -> Array | int:
    """The place of positions in the window that begins `back` strides before the last that covers them."""
    return back if axis.stride == 1 else back * axis.stride + jax.lax.broadcasted_iota(jnp.int32, shape, dimension)


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
    return _returned(dy, windows, x.shape[1:-1], _winner(x, windows))


def _cpu_spread(dy: Array, *, windows: Windows, space: tuple[int, ...]) -> Array:
    return _returned(dy, windows, space)


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
