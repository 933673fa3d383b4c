"""Rectangles within an image: drawn by area and ratio, or around a point, and the pixels they cover."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


class Box(NamedTuple):
    """In pixels, whole; may reach over the image's border."""

    top: Any
    left: Any
    height: Any
    width: Any


def inside(box: Box, height: int, width: int) -> Bool[Array, "{height} {width} 1"]:
    """Which pixels of an image of this size the box covers."""
    rows, columns = jnp.arange(height) - box.top, jnp.arange(width) - box.left
    rows, columns = (rows >= 0) & (rows < box.height), (columns >= 0) & (columns < box.width)
    return (rows[:, None] & columns[None])[..., None]


def draw(
    size: tuple[int, int], key: Key[Array, ""], area: tuple[float, float], ratio: tuple[float, float], attempts: int
) -> tuple[Box, Bool[Array, ""]]:
    """The first of `attempts` boxes that fits an image of `size` (height, width), and whether one did.

    `area`: share of the image, uniform; `ratio`: width over height, log-uniform. The corner is uniform.
    """
    height, width = size
    drawn = jax.random.uniform(key, (4 * attempts,)).reshape(4, attempts)  # drawn flat: compiles faster
    pixels = height * width * (area[0] + (area[1] - area[0]) * drawn[0])
    ratios = jnp.exp(math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * drawn[1])
    widths = jnp.round(jnp.sqrt(pixels * ratios)).astype(jnp.int32)
    heights = jnp.round(jnp.sqrt(pixels / ratios)).astype(jnp.int32)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    tops, lefts = _below(drawn[2], height - heights + 1), _below(drawn[3], width - widths + 1)
    # A sum and not an index: XLA computes its result once, and of an index all the above anew for each pixel.
    first = (jnp.arange(attempts) == jnp.argmax(fits))[None]
    return Box(*jnp.where(first, jnp.stack([tops, lefts, heights, widths]), 0).sum(axis=1)), fits.any()


def _below(drawn: Float[Array, " n"], bound: Int[Array, " n"]) -> Int[Array, " n"]:
    """A whole number from 0 to below `bound` for each number drawn from [0, 1)."""
    return jnp.floor(drawn * bound).astype(jnp.int32)


def around(size: tuple[int, int], key: Key[Array, ""], height: Any, width: Any) -> Box:
    """A box of `height` and `width` whose centre is any pixel of an image of `size`."""
    centre = _below(jax.random.uniform(key, (2,)), jnp.array(size))
    return Box(centre[0] - height // 2, centre[1] - width // 2, height, width)
