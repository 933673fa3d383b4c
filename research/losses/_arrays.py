"""What losses do with their inputs before anything else, and roots and directions whose gradients are finite."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.inputs import AnyArray

Numbers = Float[Array, "..."]


def pair(predictions: AnyArray, targets: AnyArray) -> tuple[Numbers, Numbers]:
    """Both in float32. Raises `AssertionError` where their shapes differ."""
    chex.assert_equal_shape([predictions, targets])
    return jnp.asarray(predictions, jnp.float32), jnp.asarray(targets, jnp.float32)


def root(squares: Numbers) -> Numbers:
    """Square roots, 0 of what is not more than 0, where the gradient is 0 too."""
    some = squares > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1.0)), 0.0)


def unit(vectors: AnyArray) -> Numbers:
    """Vectors along the last axis made of length 1, float32; one of zeros stays one."""
    vectors = jnp.asarray(vectors, jnp.float32)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=-1, keepdims=True))
    scaled = vectors / jnp.where(largest > 0, largest, 1.0)  # squares of it do not overflow
    square = jnp.sum(scaled**2, axis=-1, keepdims=True)
    return scaled / jnp.sqrt(jnp.where(square > 0, square, 1.0))
