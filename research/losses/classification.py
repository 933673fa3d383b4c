"""Losses of classification: per example, unmasked, float32 inside, predictions first."""

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from research.losses._inputs import BinaryLabels, ClassLabels, Logits, Number, PerExample


def softmax_cross_entropy(logits: Logits, labels: ClassLabels, *, label_smoothing: Number = 0.0) -> PerExample:
    """Cross-entropy in nats between the labels and softmax(logits): one class per example.

    Shapes: logits "b k"; labels "b" (class indices) or "b k" (probabilities). With label smoothing a, the target is
    (1 - a) x label + a / k (Szegedy et al. 2016, arXiv 1512.00567, section 7). A class index of k or more gives nan.
    """
    chex.assert_rank(logits, 2)
    logits = logits.astype(jnp.float32)
    if labels.ndim == 1 and isinstance(label_smoothing, float | int) and label_smoothing == 0:
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.losses.smooth_labels(_dense(labels, logits.shape[-1]), label_smoothing)
    chex.assert_equal_shape([logits, targets])
    return optax.losses.softmax_cross_entropy(logits, targets)


def sigmoid_binary_cross_entropy(logits: Logits, labels: BinaryLabels, *, label_smoothing: Number = 0.0) -> PerExample:
    """Cross-entropy in nats of k independent yes/no decisions, sigmoid(logits) each, summed over the classes.

    Shapes: logits "b k"; labels "b k" (0 or 1 each, or probabilities), or "b": class indices, taken as one-hot,
    or 0 and 1 where k is 1. With label smoothing a, a target t becomes (1 - a) x t + a / 2. The sum, not the mean,
    over classes is the likelihood of the whole label (Beyer et al. 2020, arXiv 2006.07159, section 5).
    """
    chex.assert_rank(logits, 2)
    logits = logits.astype(jnp.float32)
    binary = labels.ndim == 1 and logits.shape[-1] == 1
    dense = labels.astype(jnp.float32)[:, None] if binary else _dense(labels, logits.shape[-1])
    chex.assert_equal_shape([logits, dense])
    targets = (1.0 - label_smoothing) * dense + label_smoothing / 2
    return jnp.sum(optax.losses.sigmoid_binary_cross_entropy(logits, targets), axis=-1)


def _dense(labels: ClassLabels, num_classes: int) -> Float[Array, "b k"]:
    """Class indices "b" as one-hot rows "b k" float32; dense labels as they are."""
    if labels.ndim == 2:
        return jnp.asarray(labels, jnp.float32)
    one_hot = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    # one_hot gives a row of zeros for an index that is no class, whose loss would look perfect.
    return jnp.where(((labels >= 0) & (labels < num_classes))[:, None], one_hot, jnp.nan)
