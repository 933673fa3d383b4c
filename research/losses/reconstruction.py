"""Losses of pictures that are made: autoencoders, super-resolution. Means over pixels and channels, float32 inside.

Shapes: "b h w c" both. Values are from 0 to 1, or to `data_range`.
"""

import jax.numpy as jnp
import optax

from research import image
from research.inputs import ImageLogits, Images, Number, PerExample, Signed
from research.losses._arrays import pair

PIXELS = (1, 2, 3)


def mse(predictions: Images, targets: Images) -> PerExample:
    """Mean of (prediction - target)^2."""
    return jnp.mean(optax.losses.squared_error(*pair(predictions, targets)), axis=PIXELS)


def bce(predictions: ImageLogits, targets: Images) -> PerExample:
    """Mean cross-entropy in nats between targets from 0 to 1 and sigmoid(predictions).

    Where targets are between 0 and 1 its least value, at sigmoid(prediction) = target, is their own entropy.
    """
    return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(*pair(predictions, targets)), axis=PIXELS)


def charbonnier(predictions: Images, targets: Images, *, epsilon: Number = 1e-3) -> PerExample:
    """Mean of sqrt((prediction - target)^2 + epsilon^2), which is epsilon where both are equal.

    Charbonnier et al. 1994 (doi 10.1109/ICIP.1994.413553); as in Lai et al. 2017 (arXiv 1704.03915, section 3.3).
    """
    predictions, targets = pair(predictions, targets)
    return jnp.mean(jnp.sqrt((predictions - targets) ** 2 + epsilon**2), axis=PIXELS)


def ssim_loss(predictions: Images, targets: Images, *, data_range: float = 1.0) -> PerExample:
    """1 - SSIM, from 0 to 2 (`research.image.structural_similarity`). Raises `UserError`: smaller than 11 x 11."""
    return 1.0 - image.structural_similarity(*pair(predictions, targets), data_range=data_range)


def psnr_loss(predictions: Images, targets: Images, *, data_range: float = 1.0, epsilon: Number = 1e-8) -> Signed:
    """-PSNR in decibels, 10 log10(mean squared error / data_range^2 + epsilon): less is better, at least -80 dB.

    As in Chen et al. 2022 (arXiv 2204.04676, its code's PSNRLoss).
    """
    predictions, targets = pair(predictions, targets)
    error = jnp.mean(optax.losses.squared_error(predictions, targets), axis=PIXELS) / data_range**2
    return 10.0 * jnp.log10(error + epsilon)
