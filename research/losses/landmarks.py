"""Losses of landmarks: points (x, y) per example, in any one unit, float32 inside.

Shapes: "b n 2", or "b 2n" with an example's points in one row x1 y1 x2 y2 ..; `visible` "b n" is 1 where a point is
known and 0 where it is hidden, whose coordinates then may be anything, nan included.
"""

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Num

from research import landmarks
from research.inputs import AnyArray, HeatmapPoints, Heatmaps, Landmarks, Number, PerExample

Visible = Num[AnyArray, "b n"]


def landmark_mse(predictions: Landmarks, targets: Landmarks, *, visible: Visible | None = None) -> PerExample:
    """(1 / n) sum over points of (x - x')^2 + (y - y')^2; n counts the visible ones, 0 where there is none."""
    error, seen = _errors(predictions, targets, visible)
    return jnp.sum(error**2, axis=(1, 2)) / jnp.maximum(jnp.sum(seen, axis=1), 1.0)


def wing(
    predictions: Landmarks,
    targets: Landmarks,
    *,
    width: Number = 10.0,
    curvature: Number = 2.0,
    visible: Visible | None = None,
) -> PerExample:
    """Sum over coordinates of w log(1 + |e| / c) where |e| < w, else |e| - w + w log(1 + w / c): small errors count.

    Feng et al. 2018 (arXiv 1711.06753, eq. 5; w is `width`, in the coordinates' unit, and c `curvature`; their defaults
    are for pixels).
    """
    error, _ = _errors(predictions, targets, visible)
    size = jnp.abs(error)
    offset = width - width * jnp.log1p(width / curvature)
    return jnp.sum(jnp.where(size < width, width * jnp.log1p(size / curvature), size - offset), axis=(1, 2))


def heatmap_mse(
    predictions: Heatmaps, points: HeatmapPoints, *, sigma: Number = 1.0, visible: Visible | None = None
) -> PerExample:
    """Mean squared error between heatmaps "b h w n" and Gaussians of height 1 around each point (pixels of the map).

    The mean is over pixels and visible points, 0 where there is none (Tompson et al. 2014, arXiv 1406.2984; the
    Gaussians are those of `research.landmarks.gaussian_heatmaps`).
    """
    seen = _visible(points, visible)
    truth = landmarks.gaussian_heatmaps(
        jnp.where(seen[..., None] > 0, points, 0.0), (predictions.shape[1], predictions.shape[2]), sigma=sigma
    )
    chex.assert_equal_shape([predictions, truth])
    errors = optax.losses.squared_error(predictions.astype(jnp.float32), truth)
    errors = jnp.where(seen[:, None, None, :] > 0, errors, 0.0)
    return jnp.sum(jnp.mean(errors, axis=(1, 2)), axis=-1) / jnp.maximum(jnp.sum(seen, axis=1), 1.0)


def _errors(
    predictions: AnyArray, targets: AnyArray, visible: AnyArray | None
) -> tuple[jax.Array, Float[jax.Array, "b n"]]:
    """Differences "b n 2", 0 where a point is not visible, and which are."""
    chex.assert_equal_shape([predictions, targets])
    one, other = landmarks.as_points(predictions), landmarks.as_points(targets)
    seen = _visible(other, visible)
    known = seen[..., None] > 0
    return jnp.where(known, one, 0.0) - jnp.where(known, other, 0.0), seen


def _visible(points: AnyArray, visible: AnyArray | None) -> Float[jax.Array, "b n"]:
    if visible is None:
        return jnp.ones(points.shape[:2], jnp.float32)
    chex.assert_shape(visible, points.shape[:2])
    return jnp.asarray(visible > 0, jnp.float32)
