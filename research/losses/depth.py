"""Losses of depth and of views made by it: per example, float32 inside. Depths are more than 0, in one unit."""

import chex
import jax
import jax.numpy as jnp

from research.inputs import AnyArray, Depths, Disparities, Images, Number, PerExample
from research.losses._arrays import pair

SMALLEST = 1e-6  # of a depth that has a logarithm


def scale_invariant_log(predictions: Depths, targets: Depths, *, weight: Number = 0.5) -> PerExample:
    """mean(d^2) - weight x mean(d)^2, d = log prediction - log target, over pixels whose target is known.

    Shapes: both "b h w". Eigen et al. 2014 (arXiv 1406.2283, eq. 4, lambda is `weight`): with 1 a factor common to all
    depths costs nothing. A target that is 0, less or not finite is not known (sensors have holes); a prediction of less
    than 1e-6 counts as that. 0 where no target is known.
    """
    chex.assert_equal_shape([predictions, targets])
    known = (targets > 0) & (targets < jnp.inf)
    d = jnp.where(known, _log(predictions) - _log(jnp.where(known, targets, 1.0)), 0.0)
    count = jnp.maximum(jnp.sum(known, axis=(1, 2)).astype(jnp.float32), 1.0)
    mean = jnp.sum(d, axis=(1, 2)) / count
    # mean(d^2) - mean(d)^2, but of differences, which do not cancel.
    spread = jnp.sum(jnp.where(known, (d - mean[:, None, None]) ** 2, 0.0), axis=(1, 2)) / count
    return spread + (1.0 - weight) * mean**2


def edge_aware_smoothness(disparities: Disparities, images: Images) -> PerExample:
    """Mean of |difference of disparities| x exp(-|difference of the picture|), rows and columns added.

    Shapes: "b h w" and "b h w c", the difference of a picture being its mean over channels. Godard et al. 2017 (arXiv
    1609.03677, eq. 3); disparities by their own mean, as in Godard et al. 2019 (arXiv 1806.01260, section 3.2), so that
    it is no use to shrink them.
    """
    chex.assert_equal_shape_prefix([disparities, images], 3)
    disparity, picture = jnp.asarray(disparities, jnp.float32), jnp.asarray(images, jnp.float32)
    mean = jnp.mean(disparity, axis=(1, 2), keepdims=True)
    disparity = disparity / jnp.maximum(mean, SMALLEST)

    def along(axis: int) -> jax.Array:
        if disparity.shape[axis] < 2:
            return jnp.zeros(len(disparity), jnp.float32)
        edge = jnp.mean(jnp.abs(jnp.diff(picture, axis=axis)), axis=-1)
        return jnp.mean(jnp.abs(jnp.diff(disparity, axis=axis)) * jnp.exp(-edge), axis=(1, 2))

    return along(1) + along(2)


def photometric(predictions: Images, targets: Images, *, alpha: Number = 0.85) -> PerExample:
    """Mean of alpha (1 - SSIM) / 2 + (1 - alpha) |prediction - target|, SSIM over 3 x 3 pixels. Shapes: both "b h w c".

    Godard et al. 2017 (arXiv 1609.03677, eq. 2): their SSIM has a plain mean for its window; here too the picture is
    mirrored at its edges, as in Godard et al. 2019. Values from 0 to 1. Pictures are at least 2 x 2.
    """
    one, other = pair(predictions, targets)
    mean_x, mean_y = _mean3(one), _mean3(other)
    var_x, var_y = _mean3(one * one) - mean_x**2, _mean3(other * other) - mean_y**2
    both = _mean3(one * other) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    values = alpha * jnp.clip((1.0 - similarity) / 2, 0.0, 1.0) + (1.0 - alpha) * jnp.abs(one - other)
    return jnp.mean(values, axis=(1, 2, 3))


def _log(depths: AnyArray) -> jax.Array:
    return jnp.log(jnp.maximum(jnp.asarray(depths, jnp.float32), SMALLEST))


def _mean3(pictures: jax.Array) -> jax.Array:
    """The mean of the 3 x 3 pixels around each, mirrored at the edges."""
    for axis in (1, 2):
        width = [(1, 1) if a == axis else (0, 0) for a in range(4)]
        padded = jnp.pad(pictures, width, mode="reflect")
        length = pictures.shape[axis]
        before, here, after = (jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(3))
        pictures = (before + here + after) / 3.0
    return pictures
