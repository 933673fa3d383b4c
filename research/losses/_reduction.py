"""The one masked reduction: losses stay per example, and whoever wants one number applies the mask here, once."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from research.inputs import Mask, PerExample


def masked_sum(values: PerExample, mask: Mask) -> Float[Array, ""]:
    """Sum of mask x value over the batch, float32; a masked value counts 0 even where it is not finite.

    Shapes: values "b", mask "b" (1 real, 0 padding).
    """
    values, mask = values.astype(jnp.float32), mask.astype(jnp.float32)
    # A padded example may overflow, and 0 x inf is nan: choose, then multiply.
    return jnp.sum(mask * jnp.where(mask > 0, values, 0.0))


def masked_mean(values: PerExample, mask: Mask) -> Float[Array, ""]:
    """Mean of the values whose mask is 1: sum(mask x value) / max(sum(mask), 1), float32; 0 for an empty mask.

    Shapes: values "b", mask "b" (1 real, 0 padding).
    """
    return masked_sum(values, mask) / jnp.maximum(jnp.sum(mask.astype(jnp.float32)), 1.0)
