"""Boxes: the notes' numbers, laws of overlap, suppression against the loop that defines it, matching, degenerate
input."""

import functools
import inspect
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from research import boxes
from research.errors import UserError

CORNERS = np.asarray([[0, 30, 60, 70], [1, 2, 4, 8]], np.float32)
seeds = st.integers(0, 2**32 - 1)


def _drawn(random: np.random.Generator, *shape: int, spread: float = 10.0) -> np.ndarray:
    corner = random.uniform(0, spread, (*shape, 2))
    return np.concatenate([corner, corner + random.uniform(0.5, 5, (*shape, 2))], axis=-1).astype(np.float32)


def test_a_box_of_the_notes() -> None:
    # [pc, bx, by, bh, bw] = [1, .3, .5, .4, .6] in a picture of 100 x 100: x from 0 to 60, y from 30 to 70.
    corners = boxes.convert(np.asarray([0.3, 0.5, 0.4, 0.6]), "center_height_width", "corners")
    np.testing.assert_allclose(boxes.pixels(corners, 100, 100), CORNERS[0], atol=1e-5)
    np.testing.assert_allclose(boxes.normalise(CORNERS[0], 100, 100), corners, atol=1e-7)


@pytest.mark.parametrize(("source", "target"), list(itertools.product(boxes.FORMATS, repeat=2)))
def test_every_format_leads_to_every_other_and_back(source: str, target: str) -> None:
    there = boxes.convert(boxes.convert(CORNERS, "corners", source), source, target)
    np.testing.assert_allclose(boxes.convert(there, target, "corners"), CORNERS, rtol=1e-6)
    assert boxes.convert(CORNERS.astype(np.int32), "corners", target).dtype == jnp.float32


def test_formats_by_their_numbers() -> None:
    said = {name: np.asarray(boxes.convert(CORNERS[1], "corners", name)).tolist() for name in boxes.FORMATS}
    assert said == {
        "corners": [1, 2, 4, 8],
        "corners_row_first": [2, 1, 8, 4],
        "corner_width_height": [1, 2, 3, 6],
        "center_width_height": [2.5, 5, 3, 6],
        "center_height_width": [2.5, 5, 6, 3],
    }
    with pytest.raises(UserError, match="unknown format of boxes 'center'; nearest: "):
        boxes.convert(CORNERS, "corners", "center")


def test_areas_and_what_is_inside() -> None:
    np.testing.assert_array_equal(boxes.area(np.asarray([[0, 0, 2, 3], [2, 0, 0, 3], [1, 1, 1, 1]])), [6, 0, 0])
    clipped = boxes.clip(np.asarray([[-5.0, 2, 50, 20], [60, 60, 70, 70]]), 10, 30)
    np.testing.assert_array_equal(clipped, [[0, 2, 30, 10], [30, 10, 30, 10]])
    assert float(boxes.area(clipped[1])) == 0


@given(seed=seeds)
def test_laws_of_overlap(seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = _drawn(random, 4), _drawn(random, 3)
    overlap, generalised = boxes.pairwise_iou(one, other), boxes.pairwise_giou(one, other)
    assert overlap.shape == (4, 3)
    np.testing.assert_array_equal(overlap, boxes.pairwise_iou(other, one).T)
    assert float(overlap.min()) >= 0
    assert float(overlap.max()) <= 1
    assert float(generalised.min()) >= -1
    assert bool((generalised <= overlap + 1e-6).all())
    # Each side of a box of 5 in coordinates up to 15 is good to 1e-6.
    for function in (boxes.iou, boxes.giou, boxes.diou, boxes.ciou):
        np.testing.assert_allclose(function(one, one), 1, atol=1e-5)
        moved = function(one[:3] + 7, other + 7), function(3 * one[:3], 3 * other)
        for value in moved:
            np.testing.assert_allclose(value, function(one[:3], other), atol=1e-5)
    # The area of both is what is counted on a fine grid.
    whole = np.round(one[0] * 4) / 4, np.round(other[0] * 4) / 4
    y, x = np.mgrid[:80, :80] / 4 + 0.125
    inside = [(x > b[0]) & (x < b[2]) & (y > b[1]) & (y < b[3]) for b in whole]
    assert float(boxes.intersection(*whole)) == pytest.approx((inside[0] & inside[1]).sum() / 16, abs=1e-5)


@pytest.mark.parametrize("function", [boxes.iou, boxes.giou, boxes.diou, boxes.ciou])
def test_degenerate_boxes_have_an_overlap_and_a_gradient(function: object) -> None:
    assert callable(function)
    odd = [[0, 0, 0, 0], [3, 3, 1, 1], [1, 1, 1, 5], [-1e4, -1e4, 1e4, 1e4], [0, 0, 2, 2]]
    for one, other in itertools.product(jnp.asarray(odd, jnp.float32), repeat=2):
        value, slopes = jax.value_and_grad(function, argnums=(0, 1))(one, other)
        chex.assert_tree_all_finite((value, slopes))
    broken = jnp.asarray([[jnp.nan, 0, 1, 1], [0, 0, jnp.inf, 1]])
    np.testing.assert_array_equal(boxes.iou(broken, jnp.asarray([[0.0, 0, 1, 1]])), 0)
    assert boxes.pairwise_iou(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


def test_anchors() -> None:
    grid = boxes.anchor_grid(2, 3, stride=16, sizes=(32.0, 64.0), ratios=(0.5, 1.0, 2.0))
    assert grid.shape == (2, 3, 6, 4)
    np.testing.assert_allclose(boxes.area(grid[1, 2]), [32**2] * 3 + [64**2] * 3, rtol=1e-5)
    np.testing.assert_allclose(grid[0, 0, 1], [8 - 16, 8 - 16, 8 + 16, 8 + 16])
    centred = np.asarray(boxes.convert(grid[1, 2], "corners", "center_width_height"))
    np.testing.assert_allclose(centred[:, :2], [[40, 24]] * 6)
    np.testing.assert_allclose(centred[:3, 3] / centred[:3, 2], [0.5, 1, 2], rtol=1e-6)


@given(seed=seeds)
def test_what_is_encoded_is_decoded(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, anchors = _drawn(random, 5), _drawn(random, 5)
    variances = (0.1, 0.1, 0.2, 0.2)
    offsets = boxes.encode(truth, anchors, variances=variances)
    np.testing.assert_allclose(boxes.decode(offsets, anchors, variances=variances), truth, atol=2e-5)
    np.testing.assert_allclose(boxes.encode(anchors, anchors), 0, atol=1e-6)
    chex.assert_tree_all_finite(boxes.encode(np.zeros((5, 4)), anchors))
    chex.assert_tree_all_finite(boxes.encode(truth, np.zeros((5, 4))))
    chex.assert_tree_all_finite(boxes.decode(np.full((5, 4), 1e4), anchors))


def _greedy(truth: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float) -> list[int]:
    """Suppression as it is defined."""
    overlap = np.asarray(boxes.pairwise_iou(truth, truth))
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(classes[i] != classes[k] or overlap[i, k] <= threshold for k in kept):
            kept.append(int(i))
    return kept


@functools.cache
def _compiled(threshold: float) -> object:
    return jax.jit(functools.partial(boxes.nms, iou_threshold=threshold))


@pytest.mark.parametrize("count", [1, 7, 128, 129, 400])
@pytest.mark.parametrize("spread", [3.0, 30.0])
@pytest.mark.parametrize("threshold", [0.1, 0.5])
def test_suppression_is_the_greedy_one(count: int, spread: float, threshold: float) -> None:
    random = np.random.default_rng(count)
    for classes in (np.zeros(count, np.int32), random.integers(0, 3, count).astype(np.int32)):
        truth = _drawn(random, count, spread=spread)
        scores = np.round(random.uniform(size=count), 1).astype(np.float32)  # some are equal
        kept = _compiled(threshold)(truth, scores, classes)  # type: ignore[operator]
        expected = _greedy(truth, scores, classes, threshold)
        assert np.asarray(kept.indices[kept.valid]).tolist() == expected
        np.testing.assert_array_equal(kept.scores[kept.valid], scores[expected])
        assert int(kept.valid.sum()) == len(expected)
        assert not bool(kept.indices[~kept.valid].any())


def test_a_chain_of_boxes_is_settled_to_its_end() -> None:
    """Each overlaps its neighbours: every second one stays, across tiles."""
    left = np.arange(300, dtype=np.float32) * 2
    chain = np.stack([left, 0 * left, left + 4, 0 * left + 4], axis=-1)
    kept = boxes.nms(chain, -left, iou_threshold=0.3)
    assert np.asarray(kept.indices[kept.valid]).tolist() == list(range(0, 300, 2))


@given(seed=seeds)
def test_suppressing_again_changes_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, scores = _drawn(random, 20, spread=6), random.uniform(size=20).astype(np.float32)
    once = _compiled(0.4)(truth, scores, np.zeros(20, np.int32))  # type: ignore[operator]
    left = np.where(once.valid, once.scores, -np.inf).astype(np.float32)
    again = _compiled(0.4)(truth[once.indices], left, np.zeros(20, np.int32))  # type: ignore[operator]
    np.testing.assert_array_equal(again.valid, once.valid)
    np.testing.assert_array_equal(np.where(once.valid, again.indices, 0), np.arange(20) * np.asarray(once.valid))


def test_suppression_of_the_notes_and_its_options() -> None:
    same = np.asarray([[0, 0, 10, 10]] * 4, np.float32) + np.asarray([[0.0], [0.2], [0.4], [0.1]], np.float32)
    scores = np.asarray([0.9, 0.8, 0.75, 0.7], np.float32)
    kept = boxes.nms(same, scores, iou_threshold=0.5)
    assert (np.asarray(kept.valid).tolist(), int(kept.indices[0])) == ([True, False, False, False], 0)
    # Class by class, never across classes.
    assert int(boxes.nms(same, scores, np.asarray([0, 0, 1, 1]), iou_threshold=0.5).valid.sum()) == 2
    apart = same + 100 * np.arange(4, dtype=np.float32)[:, None]
    assert int(boxes.nms(apart, scores, score_threshold=0.72).valid.sum()) == 3
    assert np.asarray(boxes.nms(apart, scores, limit=2).indices).tolist() == [0, 1]
    assert boxes.nms(apart, scores, limit=9).indices.shape == (9,)
    broken = apart.copy()
    broken[0, 2] = np.nan
    assert np.asarray(boxes.nms(broken, np.asarray([1, np.nan, 0.5, 0.4])).indices)[:2].tolist() == [2, 3]
    for function in (boxes.nms, boxes.soft_nms):
        empty = function(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), limit=3)
        assert not bool(empty.valid.any())
        # Boxes of no area overlap nothing, so each stays.
        assert int(function(np.zeros((3, 4), np.float32), np.ones(3, np.float32)).valid.sum()) == 3
        batch = jax.vmap(function)(np.stack([same, apart]), np.stack([scores, scores]))
        for row in range(2):
            alone = function((same, apart)[row], scores)
            chex.assert_trees_all_close(jax.tree.map(lambda a, r=row: a[r], batch), alone, rtol=1e-6)


def test_soft_suppression_lowers_scores() -> None:
    pair = np.asarray([[0, 0, 2, 1], [1, 0, 3, 1], [10, 0, 12, 1]], np.float32)  # the first two overlap by 1/3
    scores = np.asarray([0.9, 0.8, 0.7], np.float32)
    gaussian = boxes.soft_nms(pair, scores)
    lowered = 0.8 * np.exp(-(1 / 9) / 0.5)
    assert np.asarray(gaussian.indices).tolist() == [0, 2, 1]
    np.testing.assert_allclose(gaussian.scores, [0.9, 0.7, lowered], rtol=1e-6)
    linear = boxes.soft_nms(pair, scores, decay="linear")
    np.testing.assert_allclose(linear.scores, [0.9, 0.7, 0.8 * 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(boxes.soft_nms(pair, scores, np.asarray([0, 1, 0])).scores, [0.9, 0.8, 0.7], rtol=1e-6)
    assert int(boxes.soft_nms(pair, scores, score_threshold=0.68).valid.sum()) == 2
    with pytest.raises(UserError, match="unknown decay of soft_nms 'liner'; nearest: linear"):
        inspect.unwrap(boxes.soft_nms)(pair, scores, decay="liner")  # the tests check annotations, and refuse it before


def test_matching_by_threshold() -> None:
    overlap = np.asarray([[0.8, 0.1], [0.5, 0.4], [0.1, 0.2], [0.0, 0.35]], np.float32)
    found = boxes.match_by_threshold(overlap)
    # The second box overlaps the second object most of all, though by 0.4 only.
    assert np.asarray(found.positive).tolist() == [True, True, False, False]
    assert np.asarray(found.objects).tolist() == [0, 1, 0, 0]
    assert np.asarray(found.ignored).tolist() == [False, False, False, True]
    strict = boxes.match_by_threshold(overlap, each_object=False)
    assert np.asarray(strict.positive).tolist() == [True, False, False, False]
    padded = boxes.match_by_threshold(overlap, np.asarray([True, False]))
    assert np.asarray(padded.positive).tolist() == [True, False, False, False]
    none = boxes.match_by_threshold(overlap, np.asarray([False, False]))
    assert not np.asarray(none.positive).any()
    assert boxes.match_by_threshold(np.zeros((3, 0), np.float32)).positive.shape == (3,)
    batch = boxes.match_by_threshold(np.stack([overlap, overlap[::-1]]))
    assert np.asarray(batch.positive[1]).tolist() == [False, False, True, True]


@given(seed=seeds, n=st.sampled_from([2, 5, 7]), m=st.sampled_from([1, 5]))
def test_matching_by_assignment_costs_the_least(seed: int, n: int, m: int) -> None:
    random = np.random.default_rng(seed)
    cost, valid = random.normal(size=(n, m)).astype(np.float32), random.uniform(size=m) < 0.7
    found = boxes.match_by_assignment(cost, valid)
    rows, columns = scipy.optimize.linear_sum_assignment(cost[:, valid])
    made = np.flatnonzero(found.positive)
    assert len(made) == len(rows)
    assert len(set(np.asarray(found.objects)[made])) == len(made)
    assert valid[np.asarray(found.objects)[made]].all()
    total = cost[made, np.asarray(found.objects)[made]].sum()
    assert total == pytest.approx(cost[:, valid][rows, columns].sum(), abs=1e-4)


def test_a_pair_that_may_not_be_is_not_made() -> None:
    cost = np.asarray([[np.inf, 1.0], [np.nan, 2.0], [5.0, np.inf]], np.float32)
    found = boxes.match_by_assignment(cost)
    assert np.asarray(found.positive).tolist() == [True, False, True]
    assert np.asarray(found.objects).tolist() == [1, 0, 0]
    assert not bool(boxes.match_by_assignment(np.full((2, 2), np.inf, np.float32)).positive.any())
    assert boxes.match_by_assignment(np.zeros((0, 3), np.float32)).positive.shape == (0,)
    batch = jax.vmap(boxes.match_by_assignment)(np.stack([cost, cost]))
    assert np.asarray(batch.positive).tolist() == [[True, False, True]] * 2
