"""Metrics of classification: from a batch to an accumulator, and from an accumulator to a value.

The first kind takes predictions, targets and a mask, and counts in int32. The second works on NumPy arrays (float64,
for records) and on JAX arrays (float32, jit-able) alike. Where a ratio has no denominator its value is 0, and averages
are over every class, met or not (scikit-learn with `labels=range(k)` and `zero_division=0`).
"""

from collections.abc import Callable
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Integer

from research.losses import BinaryLabels, ClassLabels, Logits, Mask, softmax_cross_entropy
from research.metrics._accumulators import Confusion, Decisions, Mean, mean, share

Average = Literal["macro", "micro", "weighted"]
Values = Any  # a float array of the accumulator's own kind (NumPy or JAX): "k" per class, or a scalar


def top_k(logits: Logits, labels: ClassLabels, mask: Mask, *, k: int = 1) -> Mean:
    """Share of examples whose class is among the k highest logits; always when k is at least the number of classes.

    Equal logits rank by class index, lowest first, as in `argmax`. A logit that is not a number is the lowest.
    """
    chex.assert_rank(logits, 2)
    index = _class_index(labels)
    own = jnp.take_along_axis(logits, index[:, None], axis=-1)
    earlier = jnp.arange(logits.shape[-1], dtype=index.dtype)[None, :] < index[:, None]
    ahead = (logits > own) | ((logits == own) & earlier)
    # Nothing is greater than nan: without the second condition a diverged model would always be right.
    correct = (jnp.sum(ahead, axis=-1) < k) & ~jnp.isnan(own[:, 0])
    return share(correct, mask)


def negative_log_likelihood(logits: Logits, labels: ClassLabels, mask: Mask) -> Mean:
    """Mean cross-entropy in nats of the labels under softmax(logits), without any smoothing."""
    return mean(softmax_cross_entropy(logits, labels), mask)


def confusion_matrix(logits: Logits, labels: ClassLabels, mask: Mask) -> Confusion:
    """Counts "k k" of (true class, class of the highest logit), lowest index among equals."""
    chex.assert_rank(logits, 2)
    num_classes = logits.shape[-1]
    predicted = jnp.argmax(jnp.where(jnp.isnan(logits), -jnp.inf, logits), axis=-1)
    empty = jnp.zeros((num_classes, num_classes), jnp.int32)
    return Confusion(empty.at[_class_index(labels), predicted].add((mask > 0).astype(jnp.int32), mode="drop"))


def decisions(logits: Logits, labels: BinaryLabels, mask: Mask) -> Decisions:
    """Per-class outcomes of independent yes/no decisions: yes where sigmoid(logit) > 0.5, truth where label > 0.5.

    Shapes: labels "b k", or "b": class indices, or 0 and 1 where k is 1.
    """
    predicted, truth = _yes(logits, labels)
    real = (mask > 0)[:, None]

    def count(outcome: Bool[Array, "b k"]) -> jax.Array:
        return jnp.sum(outcome & real, axis=0, dtype=jnp.int32)

    return Decisions(count(predicted & truth), count(predicted & ~truth), count(~predicted & truth))


def subset_accuracy(logits: Logits, labels: BinaryLabels, mask: Mask) -> Mean:
    """Share of examples with every yes/no decision right, decided as in `decisions`."""
    predicted, truth = _yes(logits, labels)
    return share(jnp.all(predicted == truth, axis=-1), mask)


def per_class(confusion: Confusion) -> Decisions:
    """The outcomes of each class against the rest, from a confusion matrix."""
    matrix = confusion.matrix
    hits = matrix.diagonal()
    return Decisions(hits, matrix.sum(axis=0) - hits, matrix.sum(axis=1) - hits)


def precision(outcomes: Decisions, *, average: Average | None = None) -> Values:
    """tp / (tp + fp): per class "k", or its `average`."""
    return _averaged(outcomes, lambda tp, fp, fn: _ratio(tp, tp + fp), average)


def recall(outcomes: Decisions, *, average: Average | None = None) -> Values:
    """tp / (tp + fn): per class "k", or its `average`."""
    return _averaged(outcomes, lambda tp, fp, fn: _ratio(tp, tp + fn), average)


def f1(outcomes: Decisions, *, average: Average | None = None) -> Values:
    """2 tp / (2 tp + fp + fn), the harmonic mean of precision and recall: per class "k", or its `average`."""
    return _averaged(outcomes, lambda tp, fp, fn: _ratio(2 * tp, 2 * tp + fp + fn), average)


def _class_index(labels: ClassLabels) -> Integer[Array, "b"]:
    """The class of each example: dense labels count as their most probable class."""
    return jnp.asarray(labels) if labels.ndim == 1 else jnp.argmax(labels, axis=-1)


def _yes(logits: Logits, labels: BinaryLabels) -> tuple[Bool[Array, "b k"], Bool[Array, "b k"]]:
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


def _ratio(numerator: Values, denominator: Values) -> Values:
    """numerator / denominator, 0 where both are 0."""
    return numerator / numerator.__array_namespace__().maximum(denominator, 1)


def _averaged(outcomes: Decisions, ratio: Callable[..., Values], average: Average | None) -> Values:
    if average == "micro":
        return ratio(*(counts.sum() for counts in outcomes))
    values = ratio(*outcomes)
    if average is None:
        return values
    if average == "macro":
        return values.mean()
    support = outcomes.true_positive + outcomes.false_negative
    return (values * _ratio(support, support.sum())).sum()
