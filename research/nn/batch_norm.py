"""Batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167), with its derivative written out.

The network, its variables and its numbers are those of `flax.linen.BatchNorm`; what differs is how the statistics of a
batch are computed (`research.nn.sums`) and that the derivative is the paper's formula: two sums over the batch instead
of the five that automatic differentiation makes of it.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.nn.sums import at_positions, over_positions

Statistics = tuple[Float[Array, " c"], Float[Array, " c"]]


class BatchNorm(nn.BatchNorm):
    """`flax.linen.BatchNorm`, "*positions c" -> "*positions c": the same fields, variables and values.

    What is not training over the last axis, without a mask, is Flax's own.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "*positions c"], use_running_average: bool | None = None, *, mask: Array | None = None
    ) -> Array:
        """The normalised maps; in training, running statistics move towards those of the batch."""
        running = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        if running or mask is not None or self.axis != -1 or self.axis_index_groups is not None:
            return super().__call__(x, use_running_average, mask=mask)
        channels = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = (
            self.param("scale", self.scale_init, channels, self.param_dtype) if self.use_scale else jnp.ones(channels)
        )
        bias = self.param("bias", self.bias_init, channels, self.param_dtype) if self.use_bias else jnp.zeros(channels)
        axis_name = None if self.is_initializing() else self.axis_name
        y, batch_mean, batch_variance = normalised(x.astype(jnp.float32), scale, bias, self.epsilon, axis_name)
        if not self.is_initializing():
            keep = self.momentum
            mean.value = keep * mean.value + (1 - keep) * batch_mean
            variance.value = keep * variance.value + (1 - keep) * batch_variance
        return y.astype(self.dtype or x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def normalised(
    x: Float[Array, "*positions c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
    axis_name: str | None = None,
) -> tuple[Float[Array, "*positions c"], Float[Array, " c"], Float[Array, " c"]]:
    """scale (x - mean) / sqrt(variance + epsilon) + bias, and the mean and (biased) variance over all positions.

    With `axis_name` also over the devices of that mapped axis. Algorithm 1 of the paper.
    """
    mean, variance = _statistics(x, axis_name)
    factor = at_positions(jax.lax.rsqrt(variance + epsilon) * scale, x.shape)
    return (x - at_positions(mean, x.shape)) * factor + at_positions(bias, x.shape), mean, variance


def _statistics(x: Array, axis_name: str | None) -> Statistics:
    """Mean and variance, the latter as E[x^2] - E[x]^2 (as Flax does: one pass over the maps), never below zero."""
    mean, square = _means(axis_name, x, x * x)
    return mean, jnp.maximum(0.0, square - mean * mean)


def _means(axis_name: str | None, *arrays: Array) -> tuple[Array, ...]:
    means = tuple(over_positions(x) / math.prod(x.shape[:-1]) for x in arrays)
    return means if axis_name is None else jax.lax.pmean(means, axis_name)


@normalised.defjvp
def _normalised_jvp(epsilon: float, axis_name: str | None, primals: Any, tangents: Any) -> Any:
    """The derivative of Algorithm 1, in the form whose transpose needs sum(dy) and sum(dy xhat), each once."""
    (x, scale, bias), (dx, dscale, dbias) = primals, tangents
    y, mean, variance = normalised(x, scale, bias, epsilon, axis_name)
    inverse = jax.lax.rsqrt(variance + epsilon)
    hat = (x - at_positions(mean, x.shape)) * at_positions(inverse, x.shape)
    mean_dx, mean_hat_dx = _means(axis_name, dx, dx * hat)
    factor = inverse * scale
    dy = dx * at_positions(factor, x.shape) + at_positions(dbias - factor * mean_dx, x.shape)
    dy += hat * at_positions(dscale - factor * mean_hat_dx, x.shape)
    return (y, mean, variance), (dy, mean_dx, 2.0 * mean_hat_dx / inverse)
