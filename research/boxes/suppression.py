"""Suppression: of boxes that say one object, the best stays. Fixed shapes, so both jit and vmap.

Boxes of different classes never suppress one another. Equal scores rank by index, lowest first.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, Num

from research.boxes.formats import AnyArray, as_float
from research.boxes.overlap import iou, pairwise_iou
from research.errors import unknown

Scores = Num[AnyArray, "n"]
Classes = Integer[AnyArray, "n"]

# Boxes that are compared with one another step by step; the rest is compared with what of them is kept, all at once.
TILE = 64


class Kept(NamedTuple):
    """What is left, best first, in arrays of a fixed length: where `valid` is false, index and score are 0."""

    indices: Integer[Array, "limit"]
    scores: Float[Array, "limit"]
    valid: Bool[Array, "limit"]


def nms(
    boxes: Float[AnyArray, "n 4"],
    scores: Scores,
    classes: Classes | None = None,
    *,
    iou_threshold: float = 0.5,
    score_threshold: float = float("-inf"),
    limit: int | None = None,
) -> Kept:
    """Greedy suppression: from the best score down, a box goes if it overlaps a kept one by more than the threshold.

    Shapes: boxes "n 4", scores "n", classes "n" (all one class without). At most `limit` (all n) are kept, only with
    scores above `score_threshold`; a score that is nan, or a box that is not finite, never is. Exact: the greedy
    result, found tile by tile.
    """
    boxes, scores = as_float(boxes), as_float(scores)
    count = len(scores)
    candidates = jnp.isfinite(boxes).all(axis=-1) & (scores > score_threshold)
    order = jnp.argsort(jnp.where(candidates, -scores, jnp.inf), stable=True)
    ranked = jnp.where(candidates[:, None], boxes, 0.0)[order]
    kind = jnp.zeros(count, jnp.int32) if classes is None else jnp.asarray(classes)[order]
    ranks, tile = jnp.arange(count, dtype=jnp.int32), min(count, TILE)

    def covers(first: Array, other: Array) -> Array:
        """Which boxes of the first ranks would suppress which of the others, "first other"."""
        return (pairwise_iou(ranked[first], ranked[other]) > iou_threshold) & (
            kind[first][:, None] == kind[other][None]
        )

    def of_tile(state: tuple[Array, Array]) -> tuple[Array, Array]:
        """Settle the best boxes of which nothing is known yet, and suppress with those of them that are kept."""
        alive, kept = state
        place = jnp.cumsum(alive, dtype=jnp.int32) - 1
        mine = jnp.full(tile, count, jnp.int32)
        mine = mine.at[jnp.where(alive & (place < tile), place, tile)].set(ranks, mode="drop")
        real, first = mine < count, jnp.minimum(mine, count - 1)
        among = covers(first, first) & (ranks[:tile, None] < ranks[None, :tile])

        def again(state: tuple[Array, Array]) -> tuple[Array, Array]:
            # What is kept is the one set that agrees with itself: each pass settles one more link of every chain.
            _, mine_kept = state
            return mine_kept, real & ~jnp.any(among & mine_kept[:, None], axis=0)

        passes = again((real, jnp.zeros_like(real)))
        _, mine_kept = jax.lax.while_loop(lambda s: jnp.any(s[0] != s[1]), again, passes)
        gone = jnp.any(covers(first, ranks) & mine_kept[:, None], axis=0)
        return alive & ~gone & (place >= tile), kept.at[jnp.where(mine_kept, mine, count)].set(True, mode="drop")

    kept = jnp.zeros(count, bool)
    if count:
        _, kept = jax.lax.while_loop(lambda state: jnp.any(state[0]), of_tile, (candidates[order], kept))
    return _first(order, scores, kept, count if limit is None else limit)


def soft_nms(
    boxes: Float[AnyArray, "n 4"],
    scores: Scores,
    classes: Classes | None = None,
    *,
    decay: Literal["gaussian", "linear"] = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.3,
    score_threshold: float = 0.001,
    limit: int | None = None,
) -> Kept:
    """The best box is taken, and the scores of those that overlap it fall, again and again.

    Bodla et al. 2017 (arXiv 1704.04503): "gaussian", times exp(-iou^2 / sigma) (eq. 3); "linear", times 1 - iou where
    iou is at least `iou_threshold` (eq. 2). Ends where no score is above `score_threshold`. Shapes and what never is
    kept as in `nms`; scores are from 0 to 1. Raises `UserError`: no such decay.
    """
    if decay not in ("gaussian", "linear"):
        raise unknown("decay of soft_nms", decay, ("gaussian", "linear"))
    boxes, scores = as_float(boxes), as_float(scores)
    count = len(scores)
    limit = count if limit is None else limit
    candidates = jnp.isfinite(boxes).all(axis=-1) & ~jnp.isnan(scores)
    boxes = jnp.where(candidates[:, None], boxes, 0.0)
    kind = jnp.zeros(count, jnp.int32) if classes is None else jnp.asarray(classes)

    def take(i: Array, state: tuple[Array, Kept]) -> tuple[Array, Kept]:
        left, kept = state
        best = jnp.argmax(left).astype(jnp.int32)
        valid = left[best] > score_threshold
        overlap = iou(boxes[best][None], boxes)
        weight = jnp.exp(-(overlap**2) / sigma)
        if decay == "linear":
            weight = jnp.where(overlap >= iou_threshold, 1.0 - overlap, 1.0)
        row = jnp.where(valid, best, 0), jnp.where(valid, left[best], 0.0), valid
        kept = Kept(*(a.at[i].set(b) for a, b in zip(kept, row, strict=True)))
        left = jnp.where(kind == kind[best], left * weight, left)
        return jnp.where(jnp.arange(count) == best, -jnp.inf, left), kept

    empty = Kept(jnp.zeros(limit, jnp.int32), jnp.zeros(limit, scores.dtype), jnp.zeros(limit, bool))
    if not count:
        return empty
    return jax.lax.fori_loop(0, min(limit, count), take, (jnp.where(candidates, scores, -jnp.inf), empty))[1]


def _first(order: Array, scores: Array, alive: Array, limit: int) -> Kept:
    """The first `limit` ranks that are alive, in order."""
    if not len(order):
        return Kept(jnp.zeros(limit, jnp.int32), jnp.zeros(limit, scores.dtype), jnp.zeros(limit, bool))
    (ranks,) = jnp.nonzero(alive, size=limit, fill_value=0)
    valid = jnp.arange(limit) < jnp.sum(alive)
    indices = jnp.where(valid, order[ranks], 0).astype(jnp.int32)
    return Kept(indices, jnp.where(valid, scores[indices], 0.0), valid)
