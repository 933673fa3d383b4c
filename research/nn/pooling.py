"""Pooling for any spatial rank, "b *space c"."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.nn import windows
from research.nn.conv import Sizes, pads, spread
from research.nn.sums import over_space

Padding = Sizes | Literal["SAME"]


def max_pool(
    x: Float[Array, "b *space c"], window: Sizes, stride: Sizes, padding: Padding = 0, *, ceil: bool = False
) -> Float[Array, "b *out c"]:
    """Largest value of each window; the padding never wins.

    With `ceil` a last window may hang over the end, if it begins before it (Caffe and PyTorch's `ceil_mode`).
    """
    rank = x.ndim - 2
    sizes, strides = spread(window, rank), spread(stride, rank)
    around = pads(x.shape[1:-1], sizes, strides, padding)
    if ceil:
        rows = zip(x.shape[1:-1], sizes, strides, around, strict=True)
        around = [(p[0], max(p[1], _overhang(n, k, s, p[0]))) for n, k, s, p in rows]
    return windows.largest(x, windows.Windows(sizes, strides, tuple(around)))


def _overhang(n: int, window: int, stride: int, padding: int) -> int:
    """Pixels after the end that the last window needs, the one that begins last inside of the input."""
    last = min(-(-(n + 2 * padding - window) // stride), (n + padding - 1) // stride)
    return last * stride + window - n - padding


def average_pool(
    x: Float[Array, "b *space c"], window: Sizes, stride: Sizes, padding: Padding = 0, *, count_padding: bool = True
) -> Float[Array, "b *out c"]:
    """Mean of each window; padding counts as zeros, or with `count_padding=False` not at all."""
    rank = x.ndim - 2
    sizes, strides = spread(window, rank), spread(stride, rank)
    around = pads(x.shape[1:-1], sizes, strides, padding)
    over = windows.Windows(sizes, strides, tuple(around))
    if count_padding:
        return windows.total(x, over) / math.prod(sizes)
    inside = jnp.ones((1, *x.shape[1:-1], 1), x.dtype)
    return windows.total(x, over) / windows.total(inside, over)


def global_average_pool(x: Float[Array, "b *space c"]) -> Float[Array, "b c"]:
    """Mean over all spatial axes, in float32 (Lin et al. 2013, arXiv:1312.4400, section 3.2)."""
    return over_space(x.astype(jnp.float32)) / math.prod(x.shape[1:-1])


def place_pool(x: Float[Array, "b *space c"]) -> Float[Array, "b features"]:
    """The mean of each channel, and where it is highest: the expected place, -1 to 1 on each axis of space, float32.

    "b (1 + axes) c": means, then places of the first axis, and so on. The expectation is over softmax of the channel
    over space (Levine et al. 2016, arXiv:1504.00702, section 5.1: spatial soft argmax), for heads that say where.
    """
    maps = x.astype(jnp.float32)
    space = tuple(range(1, maps.ndim - 1))
    weights = jax.nn.softmax(maps, axis=space)
    places = []
    for axis in space:
        along = jnp.sum(weights, axis=[other for other in space if other != axis])  # "b n c"
        places.append(jnp.einsum("bnc,n->bc", along, jnp.linspace(-1, 1, along.shape[1])))
    return jnp.concatenate([global_average_pool(x), *places], axis=-1)
