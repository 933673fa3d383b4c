"""How alike pictures are: against scikit-image on photographs, laws, and sizes that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage.metrics
from sklearn.datasets import load_sample_image

from research import image
from research.errors import UserError

PHOTOGRAPHS = np.stack([load_sample_image(name)[:200, :230] for name in ("china.jpg", "flower.jpg")])
CLEAN = (PHOTOGRAPHS / 255).astype(np.float32)
NOISY = np.clip(CLEAN + np.random.default_rng(0).normal(0, 0.1, CLEAN.shape), 0, 1).astype(np.float32)


def test_structural_similarity_is_that_of_scikit_image() -> None:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}
    for scale in (1.0, 255.0):
        one, other = CLEAN * np.float32(scale), NOISY * np.float32(scale)
        ours = image.structural_similarity(one, other, data_range=scale)
        theirs = [
            skimage.metrics.structural_similarity(a.astype(float), b.astype(float), data_range=scale, **options)
            for a, b in zip(one, other, strict=True)
        ]
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    # A mean of ones, added up in float32.
    np.testing.assert_allclose(image.structural_similarity(CLEAN, CLEAN), 1, atol=1e-6)
    np.testing.assert_allclose(  # whole numbers too
        image.structural_similarity(PHOTOGRAPHS, PHOTOGRAPHS[::-1], data_range=255.0),
        image.structural_similarity(CLEAN, CLEAN[::-1]),
        atol=1e-5,
    )


def test_signal_to_noise_is_that_of_scikit_image() -> None:
    theirs = [
        skimage.metrics.peak_signal_noise_ratio(a.astype(float), b.astype(float), data_range=1.0)
        for a, b in zip(CLEAN, NOISY, strict=True)
    ]
    np.testing.assert_allclose(image.peak_signal_to_noise(CLEAN, NOISY), theirs, rtol=1e-5)
    assert bool(jnp.isinf(image.peak_signal_to_noise(CLEAN, CLEAN)).all())


def test_many_scales_by_their_parts() -> None:
    """From scikit-image's maps at each scale: contrast and structure are what is left of SSIM without luminance."""
    one, other = (a[:1, :200, :200, :1].astype(np.float64) for a in (CLEAN, NOISY))
    product = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            one, other = (a[:, : len(a[0]) // 2 * 2, : len(a[0]) // 2 * 2] for a in (one, other))
            one, other = (
                (a[:, ::2, ::2] + a[:, 1::2, ::2] + a[:, ::2, 1::2] + a[:, 1::2, 1::2]) / 4 for a in (one, other)
            )
        x, y = one[0, ..., 0], other[0, ..., 0]

        def smooth(a: np.ndarray) -> np.ndarray:
            return scipy.ndimage.gaussian_filter(a, 1.5, truncate=3.5)[5:-5, 5:-5]

        mean_x, mean_y = smooth(x), smooth(y)
        var = smooth(x * x) - mean_x**2 + smooth(y * y) - mean_y**2 + 0.03**2
        structure = (2 * (smooth(x * y) - mean_x * mean_y) + 0.03**2) / var
        luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        product *= (structure * (luminance if scale == 4 else 1)).mean() ** weight
    ours = image.multi_scale_structural_similarity(CLEAN[:1, :200, :200, :1], NOISY[:1, :200, :200, :1])
    np.testing.assert_allclose(ours, [product], atol=1e-5)
    np.testing.assert_allclose(image.multi_scale_structural_similarity(CLEAN, CLEAN), 1, atol=1e-6)


def test_opposites_and_constants_have_a_value_and_a_gradient() -> None:
    black, white = np.zeros((1, 176, 176, 1), np.float32), np.ones((1, 176, 176, 1), np.float32)
    for one, other in ((black, white), (white, white), (CLEAN[:1, :176, :176], 1 - CLEAN[:1, :176, :176])):
        for function in (image.structural_similarity, image.multi_scale_structural_similarity):
            value, slope = jax.value_and_grad(lambda x, f=function, y=other: f(x, y).sum())(jnp.asarray(one))
            assert bool(jnp.isfinite(value) & jnp.isfinite(slope).all())


def test_pictures_that_are_too_small_are_refused() -> None:
    small = np.zeros((1, 10, 40, 3), np.float32)
    with pytest.raises(
        UserError, match=r"pictures of 10 x 40 are smaller than the window of SSIM.*expected at least 11"
    ):
        image.structural_similarity(small, small)


@pytest.mark.networks  # without the check of annotations, which would refuse it before
def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="cannot be compared"):
        image.structural_similarity(CLEAN, CLEAN[:, :100])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (12, 7)])
def test_distances_are_exact(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    marked = random.uniform(size=(3, *shape)) < 0.2
    marked[0] = False
    marked[1:, 0, 0] = True
    ours = image.distance_transform(marked)
    assert bool(jnp.isinf(ours[0]).all())
    for picture, distance in zip(marked[1:], ours[1:], strict=True):
        np.testing.assert_allclose(distance, scipy.ndimage.distance_transform_edt(~picture), rtol=1e-6)
