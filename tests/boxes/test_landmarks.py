"""Points: heatmaps and back, and affine maps."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from research import landmarks


@given(seed=st.integers(0, 2**32 - 1))
def test_points_come_back_from_their_heatmaps(seed: int) -> None:
    points = np.random.default_rng(seed).uniform(0, [8, 6], (2, 3, 2)).astype(np.float32)
    found = landmarks.from_heatmaps(landmarks.gaussian_heatmaps(points, (7, 9)))
    assert found.shape == points.shape
    # The nearest pixel is half of one away at most, and the quarter goes towards the point unless that is at the edge.
    assert float(jnp.abs(found - points).max()) <= 0.5 + 1e-4


def test_a_heatmap_is_a_gaussian_with_a_quarter_towards_its_higher_side() -> None:
    maps = landmarks.gaussian_heatmaps(np.asarray([[[3.0, 2.0]]]), (5, 6), sigma=2.0)
    assert maps.shape == (1, 5, 6, 1)
    assert float(maps[0, 2, 3, 0]) == 1
    np.testing.assert_allclose(maps[0, 2, 5, 0], np.exp(-4 / 8), rtol=1e-6)
    beside = landmarks.gaussian_heatmaps(np.asarray([[[3.2, 1.9]]]), (5, 6))
    np.testing.assert_allclose(landmarks.from_heatmaps(beside), [[[3.25, 1.75]]])


def test_points_are_moved_by_their_own_matrix() -> None:
    quarter_turn = np.asarray([[0.0, -1.0, 5.0], [1.0, 0.0, 1.0]])
    both = np.stack([quarter_turn, np.eye(3)[:2]])
    points = np.asarray([[2.0, 3.0], [0.0, 0.0]])
    np.testing.assert_allclose(landmarks.warp(np.stack([points, points]), both), [[[2, 3], [5, 1]], points])
