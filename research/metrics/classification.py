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
import numpy as np
from jaxtyping import Array, Bool, Integer

from research.inputs import BinaryLabels, ClassLabels, Logits, Mask
from research.losses import softmax_cross_entropy
from research.metrics._accumulators import Calibration, Confusion, Decisions, Mean, mean, share
from research.metrics._decisions import decided

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


def brier(logits: Logits, labels: ClassLabels, mask: Mask) -> Mean:
    """Mean over examples of the sum over classes of (softmax(logits) - one-hot label)^2, from 0 to 2.

    Brier 1950 (doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2, eq. 2). Dense labels are compared as they are.
    """
    chex.assert_rank(logits, 2)
    truth = jax.nn.one_hot(labels, logits.shape[-1]) if labels.ndim == 1 else labels.astype(jnp.float32)
    probabilities = jax.nn.softmax(jnp.asarray(logits, jnp.float32), axis=-1)
    return mean(jnp.sum((probabilities - truth) ** 2, axis=-1), mask)


def calibration(logits: Logits, labels: ClassLabels, mask: Mask, *, bins: int = 15) -> Calibration:
    """Examples by how sure of its class the model was, in `bins` of equal width (lower edge out, upper edge in).

    Guo et al. 2017 (arXiv 1706.04599, section 2, 15 bins). Confidence is the highest of softmax(logits); one that is
    not a number is in the first bin as 0, and wrong.
    """
    chex.assert_rank(logits, 2)
    probabilities = jax.nn.softmax(jnp.asarray(logits, jnp.float32), axis=-1)
    confidence = jnp.max(probabilities, axis=-1)
    known = ~jnp.isnan(confidence)
    confidence = jnp.where(known, confidence, 0.0)
    right = known & (jnp.argmax(probabilities, axis=-1) == _class_index(labels))
    edges = jnp.asarray(np.linspace(0, 1, bins + 1)[1:-1], jnp.float32)
    index = jnp.searchsorted(edges, confidence)
    real = mask > 0

    def count(values: Any) -> jax.Array:
        return jnp.zeros(bins, values.dtype).at[index].add(values)

    counts = count(real.astype(jnp.int32)), count((real & right).astype(jnp.int32))
    return Calibration(*counts, count(jnp.where(real, confidence, 0.0)))


def expected_calibration_error(seen: Calibration) -> Values:
    """Mean over examples of |accuracy - mean confidence| of their bin; 0 over no examples. Guo et al. 2017, eq. 3."""
    gap: Values = abs(seen.correct - seen.confidence)
    return gap.sum() / seen.examples.__array_namespace__().maximum(seen.examples.sum(), 1)


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
    predicted, truth = decided(logits, labels)
    real = (mask > 0)[:, None]

    def count(outcome: Bool[Array, "b k"]) -> jax.Array:
        return jnp.sum(outcome & real, axis=0, dtype=jnp.int32)

    return Decisions(count(predicted & truth), count(predicted & ~truth), count(~predicted & truth))


def subset_accuracy(logits: Logits, labels: BinaryLabels, mask: Mask) -> Mean:
    """Share of examples with every yes/no decision right, decided as in `decisions`."""
    predicted, truth = decided(logits, labels)
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
