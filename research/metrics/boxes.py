"""Metrics of boxes: how well one box fits, and how well any number of scored boxes are the objects of a picture.

`detections` decides per picture, on the device, which boxes found an object; curves and averages of them are made on
the host, over all pictures, in float64. The decisions are those of COCO's pycocotools or of PASCAL VOC's devkit.
"""

from typing import Annotated, Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Num

from research import boxes
from research.errors import UserError
from research.inputs import AnyArray, Boxes, Mask
from research.metrics._accumulators import Detections, Found, Mean, mean, share

# Of COCO: the overlaps at which a box counts, and areas in square pixels (lower and upper edge in) by name.
THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
RECALLS = np.linspace(0, 1, 101)

Interpolation = Literal["coco", "voc11", "area"]
Numbers = Float[np.ndarray, "..."]


class PredictedBoxes(NamedTuple):
    """Boxes that a detector gives for each picture, with scores; a class of less than 0 is padding."""

    boxes: Num[AnyArray, "b d 4"]
    scores: Float[AnyArray, "b d"]
    classes: Integer[AnyArray, "b d"]


class TrueBoxes(NamedTuple):
    """The objects of each picture; a class of less than 0 is padding.

    A box that is a `crowd` (COCO) or difficult (VOC) need not be found, and no box that meets it is wrong. `areas` are
    those that decide between small and large (COCO: of the outline); the boxes' own unless given.
    """

    boxes: Num[AnyArray, "b g 4"]
    classes: Integer[AnyArray, "b g"]
    crowd: Bool[AnyArray, "b g"] | None = None
    areas: Float[AnyArray, "b g"] | None = None


Predicted = Annotated[PredictedBoxes, "predicted boxes"]
Truth = Annotated[TrueBoxes, "true boxes"]


def box_iou(predictions: Boxes, targets: Boxes, mask: Mask) -> Mean:
    """Mean over examples of the intersection over union of two boxes. Shapes: "b 4" both, corners."""
    return mean(_iou(predictions, targets), mask)


def box_accuracy(predictions: Boxes, targets: Boxes, mask: Mask, *, threshold: float = 0.5) -> Mean:
    """Share of examples whose boxes overlap by at least `threshold` (IoU). Shapes: "b 4" both, corners."""
    return share(_iou(predictions, targets) >= threshold, mask)


def detections(
    predictions: Predicted,
    targets: Truth,
    mask: Mask,
    *,
    num_classes: int,
    thresholds: tuple[float, ...] = THRESHOLDS,
    limit: int = 100,
    protocol: Literal["coco", "voc"] = "coco",
) -> Detections:
    """Which boxes found an object of their class, at each overlap (IoU) and for objects of each range of `AREAS`.

    From the highest score down, at most `limit` boxes of a class in a picture. A box takes the object, not yet taken,
    that it overlaps most (COCO: Lin et al. 2014, arXiv 1405.0312, and pycocotools 2.0: of equal overlaps the last); by
    VOC it is wrong where the object that it overlaps most is taken, be another one near (Everingham et al. 2010, doi
    10.1007/s11263-009-0275-4, section 4.2.2; boxes are continuous here, where their pixels are inclusive). What meets
    only objects that do not count (a crowd, or out of the range of areas) or meets none and is itself out of the range
    counts neither way. A score that is not a number is the lowest.
    """
    of_picture = jax.vmap(lambda p, t: _of_picture(p, t, thresholds, limit, protocol))
    crowd = jnp.zeros(targets.classes.shape, bool) if targets.crowd is None else jnp.asarray(targets.crowd)
    areas = boxes.area(targets.boxes) if targets.areas is None else jnp.asarray(targets.areas, jnp.float32)
    found = of_picture(predictions, TrueBoxes(targets.boxes, targets.classes, crowd, areas))
    found = found._replace(mask=found.mask & (mask > 0)[:, None])
    counted = ~_left_out(crowd, areas) & ((targets.classes >= 0) & (mask > 0)[:, None])[:, None, :]
    place = jnp.where(targets.classes >= 0, targets.classes, num_classes)
    objects = jnp.zeros((num_classes, len(AREAS)), jnp.int32)
    objects = objects.at[place].add(jnp.swapaxes(counted, 1, 2).astype(jnp.int32), mode="drop")
    return Detections(Found(*(a.reshape(-1, *a.shape[2:]) for a in found)), objects)


def precision_recall(seen: Detections, *, label: int, threshold: int = 0, area: str = "all") -> tuple[Numbers, ...]:
    """Precision, recall and score after each box of one class, from the highest score down. Host, float64.

    `threshold` is the place among those that `detections` was given, `area` a key of `AREAS`. Recall is nan where there
    is no object of the class.
    """
    hits, misses, scores = _counts(seen, label)
    at = (slice(None), threshold, list(AREAS).index(area))
    tp, fp = hits[at], misses[at]
    objects = int(np.asarray(seen.objects)[label, at[2]])
    return tp / np.maximum(tp + fp, 1), tp / objects if objects else np.full(len(tp), np.nan), scores


def detection_average_precision(
    seen: Detections, *, interpolation: Interpolation = "coco"
) -> Float[np.ndarray, "k t a"]:
    """AP "k t a" of each class, overlap and range of areas, nan where there is no object. Host, float64.

    Precision is the highest at that recall or more: its mean at 101 recalls (coco), at 11 (voc11, before 2010), or the
    area under it (area, VOC since 2010).
    """
    objects = np.asarray(seen.objects)
    values = np.full((len(objects), *seen.found.matched.shape[1:]), np.nan)
    for label in np.flatnonzero(objects.any(axis=1)):
        hits, misses, _ = _counts(seen, int(label))
        recall = hits / np.maximum(objects[label], 1)
        precision = hits / np.maximum(hits + misses, 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        for t, a in np.ndindex(values.shape[1:]):
            if objects[label, a]:
                values[label, t, a] = _interpolated(precision[:, t, a], recall[:, t, a], interpolation)
    return values


def mean_average_precision(seen: Detections, *, interpolation: Interpolation = "coco") -> dict[str, Any]:
    """COCO's summary of `detection_average_precision` over classes with objects: by name, numbers from 0 to 1 or nan.

    map (over overlaps from .5 to .95), map50, map75 and map_small, map_medium, map_large, for detections at the ten
    `THRESHOLDS`. Raises `UserError`: detections at others.
    """
    values = detection_average_precision(seen, interpolation=interpolation)
    if values.shape[1] != len(THRESHOLDS):
        raise UserError(f"detections at {values.shape[1]} overlaps; expected the {len(THRESHOLDS)} of COCO, .5 to .95")

    def average(of: Numbers) -> float:
        known = of[~np.isnan(of)]
        return float(known.mean()) if known.size else float("nan")

    by_overlap = {"map50": 0, "map75": THRESHOLDS.index(0.75)}
    summary = {"map": average(values[..., 0])}
    summary |= {name: average(values[:, i, 0]) for name, i in by_overlap.items()}
    return summary | {f"map_{name}": average(values[..., i]) for i, name in enumerate(AREAS) if i}


def _iou(predictions: Boxes, targets: Boxes) -> Float[Array, "b"]:
    return boxes.iou(jnp.asarray(predictions, jnp.float32), jnp.asarray(targets, jnp.float32))


def _left_out(crowd: Bool[Array, "*b g"], areas: Float[Array, "*b g"]) -> Bool[Array, "*b a g"]:
    """Objects that need not be found, for each range of areas."""
    return crowd[..., None, :] | _outside(areas)


def _outside(areas: Float[Array, "*b n"]) -> Bool[Array, "*b a n"]:
    edges = (np.asarray(edge, np.float32) for edge in zip(*AREAS.values(), strict=True))
    low, high = (edge.reshape(*(1,) * (areas.ndim - 1), -1, 1) for edge in edges)
    return (areas[..., None, :] < low) | (areas[..., None, :] > high)


def _of_picture(
    predicted: PredictedBoxes, truth: Any, thresholds: tuple[float, ...], limit: int, protocol: str
) -> Found:
    chex.assert_rank(predicted.boxes, 2)
    scores = jnp.asarray(predicted.scores, jnp.float32)
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    order = jnp.argsort(jnp.where(predicted.classes < 0, jnp.inf, -scores), stable=True)
    places, scores, classes = (
        jnp.asarray(predicted.boxes, jnp.float32)[order],
        scores[order],
        jnp.asarray(predicted.classes)[order],
    )
    same = classes[:, None] == classes[None, :]
    rank = jnp.sum(jnp.tril(same, -1), axis=1)

    overlap = boxes.pairwise_iou(places, truth.boxes)
    own = boxes.area(places)
    both = boxes.intersection(places[:, None], jnp.asarray(truth.boxes)[None])
    of_crowd = both / jnp.where(own > 0, own, 1.0)[:, None]  # a crowd is no one object: how much of the box is in it
    overlap = jnp.where(truth.crowd[None] if protocol == "coco" else False, of_crowd, overlap)
    overlap = jnp.where((classes[:, None] == truth.classes[None]) & (truth.classes >= 0)[None], overlap, -1.0)

    least = jnp.minimum(jnp.asarray(thresholds, jnp.float32), 1 - 1e-6)[:, None, None]
    left_out = _left_out(truth.crowd, truth.areas)[None]  # "1 a g"
    shape = (len(thresholds), len(AREAS), len(truth.classes))
    # What may be met any number of times.
    shared = (truth.crowd if protocol == "coco" else jnp.zeros_like(truth.crowd))[None, None]

    def step(taken: Array, values: Array) -> tuple[Array, tuple[Array, Array]]:
        values = values[None, None]
        if protocol == "coco":
            free = (values >= least) & (~taken | shared)
            counting = free & ~left_out
            candidates = jnp.where(jnp.any(counting, axis=-1, keepdims=True), counting, free)
            # Of equal overlaps the last.
            best = shape[2] - 1 - jnp.argmax(jnp.where(candidates, values, -2.0)[..., ::-1], axis=-1)
            met = jnp.any(candidates, axis=-1)
        else:
            best = jnp.broadcast_to(jnp.argmax(values), shape[:2])
            met = jnp.broadcast_to(jnp.max(values) >= least[..., 0], shape[:2])
        chosen = (jnp.arange(shape[2])[None, None] == best[..., None]) & met[..., None]
        ignored = jnp.any(chosen & left_out, axis=-1)
        matched = met & ~jnp.any(chosen & taken & ~shared, axis=-1)
        return taken | chosen, (matched, ignored)

    if not shape[2]:
        matched = ignored = jnp.zeros((len(scores), *shape[:2]), bool)
    else:
        # A box beyond the limit takes nothing.
        overlap = jnp.where((rank < limit)[:, None], overlap, -1.0)
        _, (matched, ignored) = jax.lax.scan(step, jnp.zeros(shape, bool), overlap)
    ignored |= ~matched & _outside(own).T[:, None, :]
    return Found(scores, classes, matched & ~ignored, ignored, (classes >= 0) & (rank < limit))


def _counts(seen: Detections, label: int) -> tuple[Integer[np.ndarray, "n t a"], Integer[np.ndarray, "n t a"], Numbers]:
    """Hits and misses of one class so far, and the score, after each box from the highest score down."""
    scores, classes, matched, ignored, mask = (np.asarray(a) for a in seen.found)
    rows = np.flatnonzero((classes == label) & mask)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    wrong = ~matched[rows] & ~ignored[rows]
    return matched[rows].cumsum(axis=0), wrong.cumsum(axis=0), scores[rows].astype(np.float64)


def _interpolated(precision: Numbers, recall: Numbers, interpolation: Interpolation) -> float:
    """The average of precisions that never rise, over recalls that never fall."""
    if interpolation == "area":
        return float((np.diff(recall, prepend=0.0) * precision).sum())
    recalls = RECALLS if interpolation == "coco" else RECALLS[::10]
    index = np.searchsorted(recall, recalls, side="left")
    return float(np.append(precision, 0.0)[index].mean())
