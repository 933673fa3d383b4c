"""Losses of latent spaces: per example, summed over components, float32 inside."""

import jax
import jax.numpy as jnp

from research.inputs import Codes, Encodings, LatentMeans, LogVariances, Number, PerExample
from research.losses._arrays import pair


def gaussian_kl(means: LatentMeans, log_variances: LogVariances) -> PerExample:
    """KL(N(mean, variance) || N(0, 1)) in nats: sum of (mean^2 + variance - 1 - log variance) / 2.

    Shapes: both "b ...". Kingma & Welling 2013 (arXiv 1312.6114, appendix B). A log variance of more than 80 counts as
    80, for which the variance is still a number.
    """
    mean, log = pair(means, log_variances)
    # exp(log) - 1 - log loses everything near 0, where it is log^2 / 2; expm1 does not.
    values = 0.5 * (mean**2 + (jnp.expm1(jnp.minimum(log, 80.0)) - log))
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def vq_commitment(encodings: Encodings, codes: Codes, *, beta: Number = 0.25) -> PerExample:
    """||stop(z) - e||^2 + beta ||z - stop(e)||^2: codes move to encodings, and these, beta as fast, to their codes.

    Shapes: both "b ... d", each code the nearest of its codebook; sums over all but the batch. van den Oord et al. 2017
    (arXiv 1711.00937, eq. 3, second and third term). `straight_through` passes the decoder's gradient.
    """
    z, e = pair(encodings, codes)
    values = (jax.lax.stop_gradient(z) - e) ** 2 + beta * (z - jax.lax.stop_gradient(e)) ** 2
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))
