"""Metrics of pictures against the pictures they should be: means over examples of one number each, float32 inside."""

import jax.numpy as jnp

from research.image import similarity
from research.inputs import Images, Mask
from research.metrics._accumulators import Mean, mean


def image_mse(predictions: Images, targets: Images, mask: Mask) -> Mean:
    """Mean squared difference of pixels. Shapes: "b h w c" both."""
    error = jnp.asarray(predictions, jnp.float32) - jnp.asarray(targets, jnp.float32)
    return mean(jnp.mean(error**2, axis=(1, 2, 3)), mask)


def psnr(predictions: Images, targets: Images, mask: Mask, *, data_range: float = 1.0) -> Mean:
    """Peak signal-to-noise ratio in decibels, of each picture, then averaged; infinite once one picture is exact."""
    return mean(similarity.peak_signal_to_noise(predictions, targets, data_range=data_range), mask)


def ssim(predictions: Images, targets: Images, mask: Mask, *, data_range: float = 1.0) -> Mean:
    """Structural similarity, as `research.image.similarity.structural_similarity`. Shapes: "b h w c", 11 pixels up.

    Wang et al. 2004 (doi 10.1109/TIP.2003.819861). Raises `UserError`: smaller pictures.
    """
    return mean(similarity.structural_similarity(predictions, targets, data_range=data_range), mask)


def ms_ssim(predictions: Images, targets: Images, mask: Mask, *, data_range: float = 1.0) -> Mean:
    """Structural similarity at five scales. Shapes: "b h w c", 176 pixels up.

    Wang et al. 2003 (doi 10.1109/ACSSC.2003.1292216). Raises `UserError`: smaller pictures.
    """
    return mean(similarity.multi_scale_structural_similarity(predictions, targets, data_range=data_range), mask)
