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
TILE = 128


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
    padding = -count % TILE if count > TILE else 0
    tile = min(count, TILE)
    ranked = jnp.pad(jnp.where(candidates[:, None], boxes, 0.0)[order], ((0, padding), (0, 0)))
    kind = jnp.pad(jnp.zeros(count, jnp.int32) if classes is None else jnp.asarray(classes)[order], (0, padding))
    alive = jnp.pad(candidates[order], (0, padding))
    ranks = jnp.arange(tile)

    def suppressed(kept: Array, mine: Array, my_kind: Array, others: Array, other_kind: Array) -> Array:
        """Which of the others a kept box of mine covers, "others mine" reduced over mine."""
        over = (pairwise_iou(others, mine) > iou_threshold) & (other_kind[:, None] == my_kind[None, :])
        return jnp.any(over & kept[None, :], axis=-1)

    def of_tile(start: Array, alive: Array) -> Array:
        mine = jax.lax.dynamic_slice_in_dim(ranked, start, tile)
        my_kind = jax.lax.dynamic_slice_in_dim(kind, start, tile)
        mine_alive = jax.lax.dynamic_slice_in_dim(alive, start, tile)
        earlier = (ranks[None, :] < ranks[:, None]) & (my_kind[:, None] == my_kind[None, :])
        covers = earlier & (pairwise_iou(mine, mine) > iou_threshold)  # "later earlier"

        def again(state: tuple[Array, Array]) -> tuple[Array, Array]:
            # What is kept is the one set that agrees with itself: each pass settles one more link of every chain.
            _, kept = state
            return kept, mine_alive & ~jnp.any(covers & kept[None, :], axis=-1)

        none = jnp.zeros_like(mine_alive)
        _, kept = jax.lax.while_loop(lambda s: jnp.any(s[0] != s[1]), again, (none, again((none, mine_alive))[1]))
        later = jnp.arange(len(alive)) >= start + tile
        gone = later & suppressed(kept, mine, my_kind, ranked, kind)
        return jax.lax.dynamic_update_slice_in_dim(alive & ~gone, kept, start, 0)

    if count:
        alive = jax.lax.fori_loop(0, len(alive) // tile, lambda i, alive: of_tile(i * tile, alive), alive)
    return _first(order, scores, alive[:count], count if limit is None else limit)


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
