"""Losses of predicted trajectories: per example, float32 inside."""

import math

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float

from research.inputs import AnchorLogits, AnchorLogScales, AnchorOffsets, AnyArray, Signed, Trajectories


def mixture_nll(
    logits: AnchorLogits,
    offsets: AnchorOffsets,
    log_scales: AnchorLogScales,
    targets: Trajectories,
    *,
    anchors: Float[AnyArray, "k t 2"],
) -> Signed:
    """-log softmax(logits) of the anchor nearest to the truth, - log of the Gaussian around anchor + offset, nats.

    Shapes: logits "b k"; offsets and log of standard deviations (x and y independent) "b k t 2"; targets "b t 2";
    anchors "k t 2". A density may be more than 1, so this may be less than 0. Chai et al. 2019 (arXiv 1910.05449, eq.
    2; the nearest by squared distance). A log scale counts as at least -10 and at most 10.
    """
    chex.assert_equal_shape([offsets, log_scales])
    anchors = jnp.asarray(anchors, jnp.float32)
    targets = jnp.asarray(targets, jnp.float32)
    away = jnp.sum((targets[:, None] - anchors[None]) ** 2, axis=(2, 3))
    nearest = jnp.argmin(away, axis=1)

    def of_nearest(values: AnyArray) -> jax.Array:
        values = jnp.asarray(values, jnp.float32)
        index = nearest.reshape(-1, *(1,) * (values.ndim - 1))
        return jnp.take_along_axis(values, index, axis=1)[:, 0]

    choice = -of_nearest(jax.nn.log_softmax(jnp.asarray(logits, jnp.float32)))
    mean = anchors[nearest] + of_nearest(offsets)
    log_scale = jnp.clip(of_nearest(log_scales), -10.0, 10.0)
    gaussian = 0.5 * ((targets - mean) * jnp.exp(-log_scale)) ** 2 + log_scale + 0.5 * math.log(2 * math.pi)
    return choice + jnp.sum(gaussian, axis=(1, 2))
