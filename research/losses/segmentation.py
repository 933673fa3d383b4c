"""Losses of pixels, alike for pictures "b h w k" and volumes "b d h w k": per example, float32 inside.

Overlap losses take probabilities of each class (softmax or sigmoid of a network's output) and truth as 0 and 1, or as
probabilities. A class that neither has is right, as nothing of it was missed: its overlap counts as 1.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from research import image
from research.inputs import (
    AnyArray,
    Instances,
    Number,
    PerExample,
    PixelLabels,
    PixelLogits,
    PixelProbabilities,
    PixelTruth,
)


def soft_dice(predictions: PixelProbabilities, targets: PixelTruth) -> PerExample:
    """1 - mean over classes of 2 sum(p t) / (sum(p^2) + sum(t^2)). Shapes: both "b ... k".

    Milletari et al. 2016 (arXiv 1606.04797, section 3), whose denominators are squared.
    """
    p, t = _flat(predictions, targets)
    return 1.0 - jnp.mean(_share(2.0 * _sum(p * t), _sum(p * p) + _sum(t * t)), axis=-1)


def generalised_dice(predictions: PixelProbabilities, targets: PixelTruth) -> PerExample:
    """1 - 2 sum_k w sum(p t) / sum_k w sum(p + t), w = 1 / sum(t)^2 of each class. Shapes: both "b ... k".

    Sudre et al. 2017 (arXiv 1707.03237, eq. 2). A class that is not in the truth has no finite weight: it gets the
    largest of those that are.
    """
    p, t = _flat(predictions, targets)
    size = _sum(t)
    weight = jnp.where(size > 0, 1.0 / jnp.where(size > 0, size, 1.0) ** 2, 0.0)
    weight = jnp.where(size > 0, weight, jnp.max(weight, axis=-1, keepdims=True))
    weight = jnp.where(jnp.max(weight, axis=-1, keepdims=True) > 0, weight, 1.0)
    return 1.0 - _share(2.0 * jnp.sum(weight * _sum(p * t), axis=-1), jnp.sum(weight * _sum(p + t), axis=-1))


def tversky(
    predictions: PixelProbabilities, targets: PixelTruth, *, alpha: Number = 0.5, beta: Number = 0.5
) -> PerExample:
    """1 - mean over classes of tp / (tp + alpha fp + beta fn), the counts by probability. Shapes: both "b ... k".

    Salehi et al. 2017 (arXiv 1706.05721, eq. 3): alpha is what false positives cost, beta what false negatives do.
    Halves give Dice with denominators that are not squared.
    """
    p, t = _flat(predictions, targets)
    both = _sum(p * t)
    counted = both + alpha * _sum(p * (1.0 - t)) + beta * _sum((1.0 - p) * t)
    return 1.0 - jnp.mean(_share(both, counted), axis=-1)


def jaccard(predictions: PixelProbabilities, targets: PixelTruth) -> PerExample:
    """1 - mean over classes of sum(p t) / sum(p + t - p t), intersection over union. Shapes: both "b ... k"."""
    p, t = _flat(predictions, targets)
    both = _sum(p * t)
    return 1.0 - jnp.mean(_share(both, _sum(p) + _sum(t) - both), axis=-1)


def pixel_cross_entropy(
    logits: PixelLogits,
    labels: PixelLabels,
    *,
    class_weights: Float[AnyArray, "k"] | None = None,
    ignore_index: int | None = None,
) -> PerExample:
    """Weighted mean over pixels of cross-entropy in nats; 0 where every pixel is ignored. Shapes: "b ... k", "b ...".

    A pixel counts as its class's weight says, 1 without; those labelled `ignore_index` count for nothing. A label that
    is no class gives nan.
    """
    values, weights = _pixels(logits, labels, class_weights, ignore_index)
    total = jnp.sum(weights, axis=-1)
    return jnp.sum(weights * values, axis=-1) / jnp.where(total > 0, total, 1.0)


def boundary_cross_entropy(
    logits: PixelLogits,
    labels: PixelLabels,
    instances: Instances,
    *,
    max_instances: int,
    boundary_weight: Number = 10.0,
    sigma: Number = 5.0,
    class_weights: Float[AnyArray, "k"] | None = None,
) -> PerExample:
    """Sum over pixels of w x cross-entropy, w = class weight + w0 exp(-(d1 + d2)^2 / (2 sigma^2)).

    d1 and d2 are a pixel's distances to the nearest and the second nearest object, in pixels: what lies between two
    objects that nearly touch counts most (Ronneberger et al. 2015, arXiv 1505.04597, eq. 1 and 2; w0 is
    `boundary_weight`). Shapes: "b h w k", "b h w", "b h w" with objects 1 to `max_instances`, 0 for none; others are
    not seen. Where there are fewer than two objects only class weights count.
    """
    values, weights = _pixels(logits, labels, class_weights, None)
    near = jnp.stack([image.distance_transform(instances == i) for i in range(1, max_instances + 1)], axis=-1)
    if max_instances >= 2:
        together = -jnp.sum(jax.lax.top_k(-near, 2)[0], axis=-1)
        weights += boundary_weight * jnp.exp(-(together**2) / (2 * sigma**2)).reshape(weights.shape)
    return jnp.sum(weights * values, axis=-1)


def _pixels(
    logits: AnyArray, labels: AnyArray, class_weights: AnyArray | None, ignore_index: int | None
) -> tuple[Float[Array, "b n"], Float[Array, "b n"]]:
    """Cross-entropy of each pixel, and what it counts for."""
    chex.assert_equal_shape_prefix([logits, labels], labels.ndim)
    classes = logits.shape[-1]
    flat = jnp.asarray(logits, jnp.float32).reshape(logits.shape[0], -1, classes)
    index = jnp.asarray(labels).reshape(labels.shape[0], -1)
    real = (index >= 0) & (index < classes)
    inside = jnp.where(real, index, 0)
    own = jnp.take_along_axis(jax.nn.log_softmax(flat), inside[..., None], axis=-1)[..., 0]
    weights = jnp.ones(index.shape, jnp.float32)
    if class_weights is not None:
        weights = jnp.asarray(class_weights, jnp.float32)[inside]
    counts = jnp.ones(index.shape, bool) if ignore_index is None else index != ignore_index
    return jnp.where(counts, jnp.where(real, -own, jnp.nan), 0.0), jnp.where(counts, weights, 0.0)


def _flat(predictions: AnyArray, targets: AnyArray) -> tuple[jax.Array, jax.Array]:
    """Both as "b n k" float32."""
    chex.assert_equal_shape([predictions, targets])
    shape = (predictions.shape[0], predictions[0, ..., 0].size, predictions.shape[-1])
    p, t = (jnp.asarray(a, jnp.float32).reshape(shape) for a in (predictions, targets))
    return p, t


def _sum(values: Float[Array, "b n k"]) -> Float[Array, "b k"]:
    return jnp.sum(values, axis=1)


def _share(part: Array, whole: Array) -> Array:
    """part / whole, 1 where there is no whole."""
    some = whole > 0
    return jnp.where(some, part / jnp.where(some, whole, 1.0), 1.0)
