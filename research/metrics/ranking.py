"""Metrics of scores by their order alone: how well they tell yes from no at every threshold at once.

Scores are kept (`Ranked`), since no sum can hold an order; values are float32, jit-able, and no different for any
increasing function of the scores. Equal scores are one threshold. A score that is not a number is the lowest.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from research.inputs import AnyArray, BinaryLabels, Logits, Mask, Scores, YesOrNo
from research.metrics._accumulators import Mean, Ranked, share
from research.metrics._decisions import decided

Numbers = Float[Array, "..."]
Counts = Integer[Array, "..."]


class Roc(NamedTuple):
    """What is accepted at each threshold (accept: score >= threshold), from none to all; padding repeats the last."""

    false_accept: Float[Array, "n+1 *k"]  # share of what is not so, 0 where there is none
    true_accept: Float[Array, "n+1 *k"]  # share of what is so
    threshold: Float[Array, "n+1 *k"]  # the first is infinite


def class_scores(logits: Logits, labels: BinaryLabels, mask: Mask) -> Ranked:
    """The score of each class for each example, and whether it is of that class. Shapes: "b k".

    Labels are those of `decisions`: "b k", or "b" of class indices, or of 0 and 1 where k is 1.
    """
    _, truth = decided(logits, labels)
    return Ranked(_ordered(logits), truth, mask > 0)


def pair_scores(scores: Scores, same: YesOrNo, mask: Mask) -> Ranked:
    """One score for each pair, high where both should be of one kind, and whether they are. Shapes: "b".

    A distance is a score with its sign changed.
    """
    return Ranked(_ordered(scores), same > 0, mask > 0)


def verification_accuracy(scores: Scores, same: YesOrNo, mask: Mask, *, threshold: float = 0.5) -> Mean:
    """Share of pairs that are rightly accepted (score >= threshold) or rejected."""
    return share((scores >= threshold) == (same > 0), mask)


def roc(ranked: Ranked) -> Roc:
    """The receiver operating characteristic: a point before any score, and one for each. Shapes: "n *k" -> "n+1 *k"."""
    scores, yes, no, last = _sorted(ranked)
    total_yes, total_no = jnp.sum(yes, axis=0), jnp.sum(no, axis=0)

    def curve(counts: Counts, total: Counts) -> Numbers:
        reached = jnp.take_along_axis(jnp.cumsum(counts, axis=0), last, axis=0) / jnp.maximum(total, 1)[None]
        return jnp.concatenate([jnp.zeros((1, *reached.shape[1:])), reached])

    # Padding comes last, and its score of -inf is no threshold that anything has.
    real = jnp.isfinite(scores) | (yes + no > 0)
    lowest = jnp.min(jnp.where(real, scores, jnp.inf), axis=0, initial=jnp.inf)
    thresholds = jnp.where(real, scores, lowest)
    none = jnp.full((1, *scores.shape[1:]), jnp.inf)
    return Roc(curve(no, total_no), curve(yes, total_yes), jnp.concatenate([none, thresholds]))


def roc_auc(ranked: Ranked, *, average: Literal["macro"] | None = None) -> Numbers:
    """Area under the ROC curve: how often something that is so scores more than something that is not (ties half).

    Shapes: "n *k" -> "*k", nan where only one kind was seen; "macro": the mean of those that are numbers (nan: none).
    """
    curve = roc(ranked)
    width = jnp.diff(curve.false_accept, axis=0)
    height = (curve.true_accept[1:] + curve.true_accept[:-1]) / 2
    both = jnp.any(ranked.positive & _real(ranked), axis=0) & jnp.any(~ranked.positive & _real(ranked), axis=0)
    return _averaged(jnp.where(both, jnp.sum(width * height, axis=0), jnp.nan), average)


def average_precision(ranked: Ranked, *, average: Literal["macro"] | None = None) -> Numbers:
    """Mean over what is so of the precision at its own score: the sum over thresholds of precision x gain in recall.

    Shapes: "n *k" -> "*k", nan where nothing is so; "macro" as in `roc_auc`. Not interpolated; that of detection is
    `detection_average_precision`.
    """
    _, yes, no, last = _sorted(ranked)
    hits, misses = (jnp.take_along_axis(jnp.cumsum(a, axis=0), last, axis=0) for a in (yes, no))
    precision = hits / jnp.maximum(hits + misses, 1)
    total = jnp.sum(yes, axis=0)
    value = jnp.sum(jnp.where(yes > 0, precision, 0.0), axis=0) / jnp.maximum(total, 1)
    return _averaged(jnp.where(total > 0, value, jnp.nan), average)


def false_accept_rate(ranked: Ranked, *, threshold: float) -> Numbers:
    """FAR: share of what is not so whose score is at least the threshold, 0 of none. Shapes: "n *k" -> "*k"."""
    return _share_of(ranked.scores >= threshold, ~ranked.positive & _real(ranked))


def false_reject_rate(ranked: Ranked, *, threshold: float) -> Numbers:
    """FRR: share of what is so whose score is less than the threshold, 0 of none. Shapes: "n *k" -> "*k"."""
    return _share_of(ranked.scores < threshold, ranked.positive & _real(ranked))


def equal_error_rate(ranked: Ranked) -> tuple[Numbers, Numbers]:
    """The rate at which as many are falsely accepted as rejected, and its threshold. Shapes: "n *k" -> "*k" twice.

    Where the ROC curve, its points joined by straight lines, meets far = 1 - true accepts; the threshold lies as far
    between those of the two points. nan, both, where only one kind was seen.
    """
    curve = roc(ranked)
    gap = curve.false_accept + curve.true_accept - 1.0  # from -1 to 1, never falling
    after = jnp.argmax(gap >= 0, axis=0)[None]

    def at(values: Numbers, index: Counts) -> Numbers:
        return jnp.take_along_axis(values, index, axis=0)[0]

    before = jnp.maximum(after - 1, 0)
    low, high = at(gap, before), at(gap, after)
    part = jnp.where(high > low, -low / jnp.where(high > low, high - low, 1.0), 1.0)
    below, above = at(curve.false_accept, before), at(curve.false_accept, after)
    start, end = at(curve.threshold, before), at(curve.threshold, after)
    threshold = jnp.where(jnp.isfinite(start), start + part * (end - start), end)
    both = (curve.false_accept[-1] > 0) & (curve.true_accept[-1] > 0)
    return jnp.where(both, below + part * (above - below), jnp.nan), jnp.where(both, threshold, jnp.nan)


def _ordered(scores: AnyArray) -> Numbers:
    scores = jnp.asarray(scores, jnp.float32)
    return jnp.where(jnp.isnan(scores), -jnp.inf, scores)


def _real(ranked: Ranked) -> Bool[Array, "n *k"]:
    return jnp.asarray(ranked.mask).reshape(-1, *(1,) * (ranked.positive.ndim - 1))


def _sorted(ranked: Ranked) -> tuple[Numbers, Counts, Counts, Counts]:
    """Scores from high to low, counts of yes and no at each, and the row where each one's equals end; padding last."""
    real = jnp.broadcast_to(_real(ranked), ranked.positive.shape)
    scores = jnp.where(real, ranked.scores, -jnp.inf)
    falling, padding, positive = jax.lax.sort((-scores, ~real, jnp.asarray(ranked.positive)), dimension=0, num_keys=2)
    scores, real = -falling, ~padding
    n = len(scores)
    ends = jnp.concatenate([scores[1:] != scores[:-1], jnp.ones_like(real[:1])])
    rows = jnp.arange(n, dtype=jnp.int32).reshape(-1, *(1,) * (scores.ndim - 1))
    last = jax.lax.cummin(jnp.where(ends, rows, n), axis=0, reverse=True)
    return scores, (positive & real).astype(jnp.int32), (~positive & real).astype(jnp.int32), last


def _share_of(condition: Bool[AnyArray, "n *k"], of: Bool[AnyArray, "n *k"]) -> Numbers:
    return jnp.sum(condition & of, axis=0) / jnp.maximum(jnp.sum(of, axis=0), 1)


def _averaged(values: Numbers, average: str | None) -> Numbers:
    return values if average is None else jnp.nanmean(values)
