"""Landmarks: points (x, y) of a picture, and heatmaps that say how much each pixel looks like each of them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

AnyArray = Array | np.ndarray


def as_points(rows: Num[AnyArray, "b n 2"] | Num[AnyArray, "b m"]) -> Float[Array, "b n 2"]:
    """Points (x, y) float32 "b n 2", of such or of rows x1 y1 x2 y2 .. "b 2n"."""
    return jnp.asarray(rows, jnp.float32).reshape(rows.shape[0], rows.size // max(2 * rows.shape[0], 1), 2)


def gaussian_heatmaps(
    points: Num[AnyArray, "b n 2"], size: tuple[int, int], *, sigma: float | Float[AnyArray, ""] = 1.0
) -> Float[Array, "b h w n"]:
    """exp(-d^2 / (2 sigma^2)) of each pixel's distance d to each point. Shapes: points "b n 2", size (h, w).

    In pixels of the map, whose centres have whole coordinates; height 1 at a point that is on one (Tompson et al. 2014,
    arXiv 1406.2984, section 3.1.1).
    """
    points = jnp.asarray(points, jnp.float32)

    def profile(along: Array, length: int) -> Array:
        away = jnp.arange(length, dtype=jnp.float32)[None, None, :] - along[..., None]
        return jnp.exp(-(away**2) / (2 * sigma**2))

    x, y = profile(points[..., 0], size[1]), profile(points[..., 1], size[0])
    return jnp.einsum("bnh,bnw->bhwn", y, x)


def from_heatmaps(heatmaps: Num[AnyArray, "b h w n"]) -> Float[Array, "b n 2"]:
    """Where each map is highest, moved a quarter of a pixel towards the higher neighbour on each axis.

    Newell et al. 2016 (arXiv 1603.06937, section 3.4). In pixels of the map; the first of equal pixels, row by row.
    """
    height, width = heatmaps.shape[1:3]
    maps = jnp.moveaxis(jnp.asarray(heatmaps, jnp.float32), -1, 1)  # "b n h w"
    best = jnp.argmax(maps.reshape(*maps.shape[:2], -1), axis=-1)
    row, column = best // width, best % width

    def towards(shift: int, axis: int, place: Array, length: int) -> Array:
        neighbours = jnp.roll(maps, shift, axis=axis).reshape(*maps.shape[:2], -1)
        value = jnp.take_along_axis(neighbours, best[..., None], axis=-1)[..., 0]
        inside = place > 0 if shift > 0 else place < length - 1
        return jnp.where(inside, value, -jnp.inf)

    def quarter(axis: int, place: Array, length: int) -> Array:
        before, after = towards(1, axis, place, length), towards(-1, axis, place, length)
        both = jnp.isfinite(before) & jnp.isfinite(after)
        return jnp.where(both, 0.25 * jnp.sign(jnp.where(both, after - before, 0.0)), 0.0)

    x = column.astype(jnp.float32) + quarter(3, column, width)
    y = row.astype(jnp.float32) + quarter(2, row, height)
    return jnp.stack([x, y], axis=-1)


def warp(points: Num[AnyArray, "*b n 2"], matrix: Num[AnyArray, "*b 2 3"]) -> Float[Array, "*b n 2"]:
    """Each point (x, y) moved by its example's affine matrix [[a, b, tx], [c, d, ty]]. Shapes: "... n 2", "... 2 3"."""
    matrix = jnp.asarray(matrix, jnp.float32)
    moved = jnp.einsum("...ij,...nj->...ni", matrix[..., :2], jnp.asarray(points, jnp.float32))
    return moved + matrix[..., None, :, 2]
