"""Metrics of depth: over the pixels of a picture whose depth is known, then the mean over pictures.

A target that is 0, less, or not finite is not known (sensors have holes). A prediction of less than 1e-6, or that is
not a number, counts as 1e-6. A picture without any known depth is left out. Eigen et al. 2014 (arXiv 1406.2283,
section 4.3); their averages are over all pixels of a data set, ours over each picture's first, as most since.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from research.inputs import Depths, Mask
from research.metrics._accumulators import Mean, mean

SMALLEST = 1e-6


def depth_rmse(predictions: Depths, targets: Depths, mask: Mask) -> Mean:
    """sqrt(mean (prediction - target)^2), in the unit of the depths. Shapes: "b h w" both."""
    return _averaged(predictions, targets, mask, lambda d, t: (d - t) ** 2, jnp.sqrt)


def depth_mae(predictions: Depths, targets: Depths, mask: Mask) -> Mean:
    """Mean |prediction - target|, in the unit of the depths. Shapes: "b h w" both."""
    return _averaged(predictions, targets, mask, lambda d, t: jnp.abs(d - t))


def depth_log_rmse(predictions: Depths, targets: Depths, mask: Mask) -> Mean:
    """sqrt(mean (log prediction - log target)^2), natural logarithms. Shapes: "b h w" both."""
    return _averaged(predictions, targets, mask, lambda d, t: (jnp.log(d) - jnp.log(t)) ** 2, jnp.sqrt)


def depth_abs_rel(predictions: Depths, targets: Depths, mask: Mask) -> Mean:
    """Mean |prediction - target| / target. Shapes: "b h w" both."""
    return _averaged(predictions, targets, mask, lambda d, t: jnp.abs(d - t) / t)


def depth_sq_rel(predictions: Depths, targets: Depths, mask: Mask) -> Mean:
    """Mean (prediction - target)^2 / target. Shapes: "b h w" both."""
    return _averaged(predictions, targets, mask, lambda d, t: (d - t) ** 2 / t)


def depth_delta(predictions: Depths, targets: Depths, mask: Mask, *, power: int = 1) -> Mean:
    """Share of pixels for which max(prediction / target, target / prediction) < 1.25^power. Shapes: "b h w" both."""
    return _averaged(
        predictions, targets, mask, lambda d, t: (jnp.maximum(d / t, t / d) < 1.25**power).astype(jnp.float32)
    )


def _averaged(
    predictions: Depths,
    targets: Depths,
    mask: Mask,
    of_pixel: Callable[[jax.Array, jax.Array], jax.Array],
    of_picture: Callable[[jax.Array], jax.Array] = lambda value: value,
) -> Mean:
    chex.assert_equal_shape([predictions, targets])
    d, t = jnp.asarray(predictions, jnp.float32), jnp.asarray(targets, jnp.float32)
    known = (t > 0) & (t < jnp.inf)
    d = jnp.maximum(jnp.where(known & ~jnp.isnan(d), d, SMALLEST), SMALLEST)
    values = jnp.where(known, of_pixel(d, jnp.where(known, t, 1.0)), 0.0)
    count = jnp.sum(known, axis=(1, 2), dtype=jnp.float32)
    pictures = of_picture(jnp.sum(values, axis=(1, 2)) / jnp.maximum(count, 1.0))
    return mean(pictures, jnp.where(count > 0, mask, 0.0))
