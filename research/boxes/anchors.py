"""Anchors: boxes laid over a picture in a grid, and predicted boxes as numbers relative to them."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from research.boxes.formats import Boxes, FloatBoxes, as_float, convert

# What a box must be to have a logarithm; and the most that is made of a prediction: Ren et al.'s code.
SMALLEST = 1e-6
LARGEST = math.log(1000 / 16)

Four = tuple[float, float, float, float]


def anchor_grid(
    rows: int, columns: int, *, stride: float, sizes: Sequence[float], ratios: Sequence[float] = (1.0,)
) -> Float[np.ndarray, "rows columns k 4"]:
    """Boxes of every size and ratio around the centre of each cell of a feature map, corners in the picture's pixels.

    Shapes: "rows columns k 4", k = sizes x ratios, ratios fastest. A cell is `stride` pixels wide and high; a ratio is
    height / width, and a box's area is its size squared whatever its ratio (Ren et al. 2015, arXiv 1506.01497, section
    3.1.1). They may reach out of the picture: `clip`. A constant, so NumPy.
    """
    x, y = ((np.arange(count) + 0.5) * stride for count in (columns, rows))
    ratio = np.tile(np.sqrt(np.asarray(ratios, np.float64)), len(sizes))
    size = np.repeat(np.asarray(sizes, np.float64), len(ratios))
    half = np.stack([size / ratio, size * ratio], axis=-1) / 2  # "k 2": half width, half height
    centre = np.stack(np.meshgrid(x, y), axis=-1)[:, :, None, :]
    return np.concatenate([centre - half, centre + half], axis=-1).astype(np.float32)


def encode(boxes: Boxes, anchors: Boxes, *, variances: Four = (1.0, 1.0, 1.0, 1.0)) -> FloatBoxes:
    """[(x - xa) / wa, (y - ya) / ha, log(w / wa), log(h / ha)] / variances of centres and sizes. Shapes: "... 4" each.

    Girshick et al. 2014 (arXiv 1311.2524, appendix C). A side of less than a millionth of the anchor's counts as that
    much, so boxes of no area have finite offsets.
    """
    x, y, w, h = _centred(boxes)
    xa, ya, wa, ha = _centred(anchors)
    wa, ha = jnp.maximum(wa, SMALLEST), jnp.maximum(ha, SMALLEST)
    offsets = (x - xa) / wa, (y - ya) / ha, *(jnp.log(jnp.maximum(r, SMALLEST)) for r in (w / wa, h / ha))
    return jnp.stack([offset / v for offset, v in zip(offsets, variances, strict=True)], axis=-1)


def decode(offsets: Boxes, anchors: Boxes, *, variances: Four = (1.0, 1.0, 1.0, 1.0)) -> FloatBoxes:
    """The boxes that `encode` made these offsets of. Shapes: "... 4" each.

    A side becomes at most 62.5 times the anchor's, so that no prediction overflows.
    """
    xa, ya, wa, ha = _centred(anchors)
    x, y, w, h = (as_float(offsets)[..., i] * v for i, v in enumerate(variances))
    width, height = (jnp.exp(jnp.minimum(log, LARGEST)) * side for log, side in ((w, wa), (h, ha)))
    centred = jnp.stack([x * wa + xa, y * ha + ya, width, height], axis=-1)
    return convert(centred, "center_width_height", "corners")


def _centred(boxes: Boxes) -> list[Array]:
    centred = convert(boxes, "corners", "center_width_height")
    return [centred[..., i] for i in range(4)]
