"""Metrics of landmarks: points (x, y) per example in any one unit, against where they are.

`visible` "b n" is 1 where a point is known; hidden ones count for nothing, whatever their coordinates. An example
without a visible point is left out. A predicted coordinate that is not a number is wrong: infinitely far away.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Num

from research import landmarks
from research.inputs import AnyArray, Landmarks, Mask
from research.metrics._accumulators import Mean, mean

Visible = Num[AnyArray, "b n"]
# What distances are divided by, or areas: one for all, or each example's own.
Scale = float | Float[AnyArray, "b"]

# Standard deviations of the 17 points of COCO's people, by the root of the object's area: nose, eyes, ears, shoulders,
# elbows, wrists, hips, knees, ankles (cocodataset.org, keypoints evaluation, 1.3).
_LEFT_AND_RIGHT = (0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089)
COCO_SIGMAS = (0.026, *(sigma for sigma in _LEFT_AND_RIGHT for _ in range(2)))


def nme(
    predictions: Landmarks, targets: Landmarks, mask: Mask, *, scale: Scale = 1.0, visible: Visible | None = None
) -> Mean:
    """Mean over points of distance / scale, then over examples. Shapes: "b n 2" or "b 2n".

    The scale is what the field divides by there: the distance of the eyes, the side of the face's box.
    """
    distance, seen = _distances(predictions, targets, visible)
    return _over_points(distance / _of_example(scale), seen, mask)


def pck(
    predictions: Landmarks,
    targets: Landmarks,
    mask: Mask,
    *,
    alpha: float = 0.1,
    scale: Scale = 1.0,
    visible: Visible | None = None,
) -> Mean:
    """PCK@alpha: share of points at most alpha x scale away, of each example, then averaged. Shapes as in `nme`.

    Yang & Ramanan 2013 (doi 10.1109/TPAMI.2012.261): their scale is the longer side of the box.
    """
    distance, seen = _distances(predictions, targets, visible)
    return _over_points((distance <= alpha * _of_example(scale)).astype(jnp.float32), seen, mask)


def oks(
    predictions: Landmarks,
    targets: Landmarks,
    mask: Mask,
    *,
    area: Scale = 1.0,
    sigmas: tuple[float, ...] | None = None,
    visible: Visible | None = None,
) -> Mean:
    """Object keypoint similarity: mean over points of exp(-d^2 / (8 area sigma^2)), then over examples. As COCO's.

    Shapes as in `nme`, area "b" that of the object, in the square of the coordinates' unit; sigmas `COCO_SIGMAS` for 17
    points, else 1 / 20 each (as crowd-sourced points of other kinds are given).
    """
    distance, seen = _distances(predictions, targets, visible)
    count = distance.shape[1]
    deviations = sigmas or (COCO_SIGMAS if count == len(COCO_SIGMAS) else (0.05,) * count)
    variance = (2 * np.asarray(deviations, np.float32)[None]) ** 2
    size = jnp.maximum(jnp.asarray(_of_example(area), jnp.float32), np.finfo(np.float32).tiny)
    return _over_points(jnp.exp(-(distance**2) / (2 * size * variance)), seen, mask)


def _distances(
    predictions: Landmarks, targets: Landmarks, visible: Visible | None
) -> tuple[Float[jax.Array, "b n"], Bool[jax.Array, "b n"]]:
    chex.assert_equal_shape([predictions, targets])
    one, other = landmarks.as_points(predictions), landmarks.as_points(targets)
    seen = jnp.ones(one.shape[:2], bool) if visible is None else jnp.asarray(visible > 0)
    chex.assert_shape(seen, one.shape[:2])
    distance = jnp.linalg.norm(one - jnp.where(seen[..., None], other, 0.0), axis=-1)
    return jnp.where(jnp.isnan(distance), jnp.inf, distance), seen


def _of_example(scale: Scale) -> Float[AnyArray, "b 1"] | float:
    return scale if isinstance(scale, float | int) else scale[:, None]


def _over_points(values: Float[jax.Array, "b n"], seen: Bool[jax.Array, "b n"], mask: Mask) -> Mean:
    count = jnp.sum(seen, axis=1, dtype=jnp.float32)
    average = jnp.sum(jnp.where(seen, values, 0.0), axis=1) / jnp.maximum(count, 1.0)
    return mean(average, jnp.where(count > 0, mask, 0.0))
