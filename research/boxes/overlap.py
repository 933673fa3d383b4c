"""How far boxes cover one another. Both of one shape, or of shapes that broadcast; `pairwise_` takes two lists.

No area at all between two boxes gives overlap 0. Gradients are finite everywhere.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from research.boxes.formats import AnyArray, Boxes, area, as_float

Numbers = Float[Array, "..."]


def intersection(one: Boxes, other: Boxes) -> Numbers:
    """Area that both cover. Shapes: "... 4" and "... 4" that broadcast -> "..."."""
    one, other = _broadcast(one, other)
    width = jnp.minimum(one[..., 2], other[..., 2]) - jnp.maximum(one[..., 0], other[..., 0])
    height = jnp.minimum(one[..., 3], other[..., 3]) - jnp.maximum(one[..., 1], other[..., 1])
    return jnp.maximum(width, 0.0) * jnp.maximum(height, 0.0)


def iou(one: Boxes, other: Boxes) -> Numbers:
    """Intersection over union, from 0 to 1. Shapes: "... 4" and "... 4" that broadcast -> "..."."""
    return _iou_and_union(*_broadcast(one, other))[0]


def giou(one: Boxes, other: Boxes) -> Numbers:
    """IoU - the share of the smallest box around both that neither covers, from -1 to 1. Shapes as in `iou`.

    Rezatofighi et al. 2019 (arXiv 1902.09630, algorithm 1).
    """
    one, other = _broadcast(one, other)
    overlap, union = _iou_and_union(one, other)
    around = area(_around(one, other))
    return overlap - _ratio(around - union, around)


def diou(one: Boxes, other: Boxes) -> Numbers:
    """IoU - (distance of the centres / diagonal of the smallest box around both)^2, from -1 to 1. Shapes as in `iou`.

    Zheng et al. 2020 (arXiv 1911.08287, eq. 7).
    """
    one, other = _broadcast(one, other)
    return _iou_and_union(one, other)[0] - _distance(one, other)


def ciou(one: Boxes, other: Boxes) -> Numbers:
    """`diou` - a v: v = 4 / pi^2 (difference of arctan(w / h))^2, a = v / (1 - IoU + v). Shapes as in `iou`.

    Zheng et al. 2020 (arXiv 1911.08287, eq. 8 to 11).
    """
    one, other = _broadcast(one, other)
    overlap = _iou_and_union(one, other)[0]
    v = 4 / math.pi**2 * (_proportion(one) - _proportion(other)) ** 2
    return overlap - _distance(one, other) - _ratio(v * v, 1.0 - overlap + v)


def pairwise_iou(one: Boxes, other: Boxes) -> Float[Array, "... n m"]:
    """`iou` of each box of one list with each of the other. Shapes: "... n 4", "... m 4" -> "... n m"."""
    return iou(one[..., :, None, :], other[..., None, :, :])


def pairwise_giou(one: Boxes, other: Boxes) -> Float[Array, "... n m"]:
    """`giou` of each box of one list with each of the other. Shapes: "... n 4", "... m 4" -> "... n m"."""
    return giou(one[..., :, None, :], other[..., None, :, :])


def _broadcast(one: Boxes, other: Boxes) -> tuple[Array, Array]:
    """Both as floats of one rank; the arithmetic broadcasts, so nothing is copied here."""
    one, other = as_float(one), as_float(other)
    rank = max(one.ndim, other.ndim)
    one, other = (a.reshape((1,) * (rank - a.ndim) + a.shape) for a in (one, other))
    return one, other


def _iou_and_union(one: Array, other: Array) -> tuple[Array, Array]:
    both = intersection(one, other)
    union = area(one) + area(other) - both
    return _ratio(both, union), union


def _around(one: Array, other: Array) -> Array:
    """The smallest box that holds both."""
    low = [jnp.minimum(one[..., i], other[..., i]) for i in (0, 1)]
    high = [jnp.maximum(one[..., i], other[..., i]) for i in (2, 3)]
    return jnp.stack(low + high, axis=-1)


def _distance(one: Array, other: Array) -> Array:
    """Squared distance of the centres by the squared diagonal of the smallest box around both."""

    def squared(x: Array, y: Array) -> Array:
        return x * x + y * y

    apart = squared(*((one[..., i] + one[..., i + 2] - other[..., i] - other[..., i + 2]) / 2 for i in (0, 1)))
    around = _around(one, other)
    return _ratio(apart, squared(*(around[..., i + 2] - around[..., i] for i in (0, 1))))


def _proportion(boxes: Array) -> Array:
    """arctan(w / h), 0 where there is no height to divide by."""
    width, height = (jnp.maximum(boxes[..., i + 2] - boxes[..., i], 0.0) for i in (0, 1))
    return jnp.arctan(_ratio(width, height))


def _ratio(numerator: AnyArray, denominator: AnyArray) -> Array:
    """numerator / denominator, and 0, with gradient 0, where the denominator is not more than 0 or not finite."""
    some = (denominator > 0) & (denominator < jnp.inf)
    return jnp.where(some, numerator / jnp.where(some, denominator, 1.0), 0.0)
