"""Metrics of segmentation: what class each pixel is of, and which pixels are one object.

Values work on NumPy arrays (float64, for records) and JAX arrays (float32, jit-able). A class that is neither in the
truth nor predicted has no value (nan) and does not enter a mean; over no class at all a mean is nan.
"""

from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Integer

from research.inputs import AnyArray, Mask, PixelLabels, PixelLogits, Segments, TrueSegments
from research.metrics._accumulators import Confusion, Panoptic
from research.metrics.classification import per_class

INSTANCES = 2**16  # of one class in a picture
Average = Literal["macro"]
Values = Any  # a float array of the accumulator's own kind (NumPy or JAX): "k" per class, or a scalar


def pixel_confusion(
    logits: PixelLogits, labels: PixelLabels, mask: Mask, *, ignore_index: int | None = None
) -> Confusion:
    """Counts "k k" of pixels (true class, class of the highest logit), but for those whose label is `ignore_index`.

    Shapes: logits "b *s k", labels "b *s". Labels outside of 0 to k - 1 are not counted. int32: up to 2^31 pixels of a
    pair of classes on the device; merge NumPy arrays of int64 beyond that.
    """
    num_classes = logits.shape[-1]
    chex.assert_shape(labels, logits.shape[:-1])
    predicted = jnp.argmax(jnp.where(jnp.isnan(logits), -jnp.inf, logits), axis=-1).astype(jnp.int32)
    counted = jnp.broadcast_to((mask > 0).reshape(-1, *(1,) * (labels.ndim - 1)), labels.shape)
    counted &= (labels >= 0) & (labels < num_classes)
    if ignore_index is not None:
        counted &= labels != ignore_index
    place = jnp.where(counted, jnp.asarray(labels, jnp.int32) * num_classes + predicted, 0)
    counts = jnp.zeros(num_classes**2, jnp.int32).at[place.ravel()].add(counted.ravel().astype(jnp.int32))
    return Confusion(counts.reshape(num_classes, num_classes))


def pixel_accuracy(confusion: Confusion) -> Values:
    """Share of pixels whose class is right; nan of none."""
    matrix = confusion.matrix
    return _ratio(matrix.diagonal().sum(), matrix.sum())


def class_iou(confusion: Confusion, *, average: Average | None = None) -> Values:
    """Intersection over union of each class "k", tp / (tp + fp + fn), or with "macro" their mean: mIoU."""
    tp, fp, fn = per_class(confusion)
    return _averaged(tp, tp + fp + fn, average)


def dice(confusion: Confusion, *, average: Average | None = None) -> Values:
    """2 tp / (2 tp + fp + fn) of each class "k", or with "macro" their mean: of all pixels, not of each picture."""
    tp, fp, fn = per_class(confusion)
    return _averaged(2 * tp, 2 * tp + fp + fn, average)


def frequency_weighted_iou(confusion: Confusion) -> Values:
    """Sum over classes of their share of true pixels x their IoU (Long et al. 2015, arXiv 1411.4038, section 5)."""
    frequency = _ratio(confusion.matrix.sum(axis=1), confusion.matrix.sum())
    namespace = confusion.matrix.__array_namespace__()
    weighted = namespace.where(frequency == 0, 0.0, frequency * class_iou(confusion))  # a class of no pixels has no IoU
    return weighted.sum()


def panoptic_segments(
    predictions: Segments, targets: TrueSegments, mask: Mask, *, num_classes: int, max_segments: int = 128
) -> Panoptic:
    """Segments of each class found (IoU > 0.5 with one of the same class, which only one can have), wrong and missed.

    Shapes: "b h w 2", [class, instance] of each pixel. Kirillov et al. 2019 (arXiv 1801.00868, section 4): pixels whose
    truth is not known (class < 0) are no part of a prediction, and a segment more than half of which they are is not
    counted as wrong. A picture with more than `max_segments` of either cannot be told: its overlaps are nan. Classes
    are 0 to num_classes - 1, instances 0 to 65,535.
    """
    chex.assert_equal_shape([predictions, targets])

    def of_picture(one: AnyArray, other: AnyArray) -> Panoptic:
        mine, theirs = _numbered(one, max_segments), _numbered(other, max_segments)
        size = max_segments + 1  # the first is void
        both = jnp.zeros((size, size), jnp.int32).at[mine.place, theirs.place].add(1)
        areas = both.sum(axis=1)
        intersection, known = both[1:, 1:], areas[1:] - both[1:, 0]
        union = known[:, None] + both.sum(axis=0)[None, 1:] - intersection
        same = mine.classes[:, None] == theirs.classes[None, :]
        overlap = jnp.where(same & (mine.classes >= 0)[:, None], intersection / jnp.maximum(union, 1), 0.0)
        match = overlap > 0.5
        real = mine.classes >= 0, theirs.classes >= 0
        found = jnp.any(match, axis=1), jnp.any(match, axis=0)
        wrong = real[0] & ~found[0] & (2 * both[1:, 0] <= areas[1:])
        overlaps = jnp.sum(jnp.where(match, overlap, 0.0), axis=1)
        told = jnp.where(mine.complete & theirs.complete, 0.0, jnp.nan)

        def by_class(classes: Array, values: Array) -> Array:
            valid = (classes >= 0) & (classes < num_classes)
            return (
                jnp.zeros(num_classes, values.dtype).at[jnp.where(valid, classes, num_classes)].add(values, mode="drop")
            )

        return Panoptic(
            by_class(mine.classes, found[0].astype(jnp.int32)),
            by_class(mine.classes, wrong.astype(jnp.int32)),
            by_class(theirs.classes, (real[1] & ~found[1]).astype(jnp.int32)),
            by_class(mine.classes, overlaps + told) + by_class(theirs.classes, jnp.full(max_segments, told)),
        )

    each = jax.vmap(of_picture)(predictions, targets)
    return Panoptic(*(jnp.sum(jnp.where(mask[:, None] > 0, a, jnp.zeros_like(a)), axis=0) for a in each))


def panoptic_quality(seen: Panoptic, *, average: Average | None = None) -> Values:
    """PQ = sum of IoU / (tp + fp / 2 + fn / 2): of each class "k", or the mean of those met.

    `segmentation_quality` x `recognition_quality` (Kirillov et al. 2019, arXiv 1801.00868, eq. 1 and 2).
    """
    tp, fp, fn, overlap = seen
    return _averaged(2 * overlap, 2 * tp + fp + fn, average)


def segmentation_quality(seen: Panoptic, *, average: Average | None = None) -> Values:
    """SQ = mean IoU of the segments found: of each class "k", 0 where none is found, or the mean of those met."""
    tp, fp, fn, overlap = seen
    # Where something is met and nothing found, 0 of 1.
    met = (tp + fp + fn > 0).astype(tp.dtype)
    return _averaged(overlap, tp.__array_namespace__().maximum(tp, met), average)


def recognition_quality(seen: Panoptic, *, average: Average | None = None) -> Values:
    """RQ = tp / (tp + fp / 2 + fn / 2), the F1 of segments: of each class "k", or the mean of those met."""
    tp, fp, fn, _ = seen
    return _averaged(2 * tp, 2 * tp + fp + fn, average)


class _Numbered(NamedTuple):
    """The segments of one picture, numbered from 1 (0: none), and the class of each (-1: there is none)."""

    place: Integer[Array, "h w"]
    classes: Integer[Array, "s"]
    complete: Bool[Array, ""]


def _numbered(segments: Integer[AnyArray, "h w 2"], most: int) -> _Numbered:
    classes, instances = jnp.asarray(segments[..., 0], jnp.int32), jnp.asarray(segments[..., 1], jnp.int32)
    void = jnp.iinfo(jnp.int32).max  # after every segment, so that it takes no place among `most`
    keys = jnp.where(classes >= 0, classes * INSTANCES + instances, void)
    kept = jnp.unique(keys, size=most + 1, fill_value=void)[:-1]
    index = jnp.searchsorted(kept, keys.ravel()).reshape(keys.shape).astype(jnp.int32)
    known = jnp.take(kept, index, mode="clip") == keys
    return _Numbered(
        jnp.where((keys != void) & known, index + 1, 0),
        jnp.where(kept != void, kept // INSTANCES, -1),
        jnp.all(known | (keys == void)),
    )


def _ratio(numerator: Values, denominator: Values) -> Values:
    """numerator / denominator, nan where the denominator is 0."""
    namespace = denominator.__array_namespace__()
    return namespace.where(denominator > 0, numerator / namespace.maximum(denominator, 1), float("nan"))


def _averaged(numerator: Values, denominator: Values, average: str | None) -> Values:
    """The ratio of each class, or its mean over those whose denominator is not 0: what cannot be told stays nan."""
    values = _ratio(numerator, denominator)
    if average is None:
        return values
    namespace, met = values.__array_namespace__(), denominator > 0
    total = namespace.where(met, values, 0.0).sum()
    return namespace.where(met.any(), total / namespace.maximum(met.sum(), 1), float("nan"))
