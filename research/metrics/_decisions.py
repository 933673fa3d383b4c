"""Yes or no for each class: what metrics of decisions and of rankings both start from."""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool

from research.inputs import BinaryLabels, Logits


def decided(logits: Logits, labels: BinaryLabels) -> tuple[Bool[Array, "b k"], Bool[Array, "b k"]]:
    """What is predicted and what is true of each example and class."""
    chex.assert_rank(logits, 2)
    if labels.ndim == 1:
        num_classes = logits.shape[-1]
        classes = jnp.arange(num_classes, dtype=labels.dtype) if num_classes > 1 else jnp.ones(1, labels.dtype)
        truth = labels[:, None] == classes[None, :]
    else:
        truth = labels > 0.5
    chex.assert_equal_shape([logits, truth])
    return jnp.asarray(logits > 0), jnp.asarray(truth)
