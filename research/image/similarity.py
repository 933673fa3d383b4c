"""How alike two pictures are, one number each: what image losses and metrics both are made of."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from research.errors import UserError

AnyArray = Array | np.ndarray
Pictures = Num[AnyArray, "b h w c"]
PerPicture = Float[Array, "b"]

WINDOW, SIGMA = 11, 1.5  # of Wang et al. 2004, section III.C
K1, K2 = 0.01, 0.03
# What each scale counts for: Wang et al. 2003, section 3.2.
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def peak_signal_to_noise(one: Pictures, other: Pictures, *, data_range: float = 1.0) -> PerPicture:
    """10 log10(data_range^2 / mean squared error), decibels; infinite for equal ones. Shapes: "b h w c" -> "b"."""
    one, other = jnp.asarray(one, jnp.float32), jnp.asarray(other, jnp.float32)
    return 10.0 * jnp.log10(data_range**2 / jnp.mean((one - other) ** 2, axis=(1, 2, 3)))


def structural_similarity(one: Pictures, other: Pictures, *, data_range: float = 1.0) -> PerPicture:
    """SSIM with a Gaussian window of 11 pixels, sigma 1.5; its mean over places whose window is inside, and channels.

    Shapes: "b h w c" -> "b". Wang et al. 2004 (doi 10.1109/TIP.2003.819861, eq. 13; K 0.01 and 0.03; population
    variances, as there). Raises `UserError`: pictures smaller than the window.
    """
    similarity, _ = _maps(one, other, data_range)
    return jnp.mean(similarity, axis=(1, 2, 3))


def multi_scale_structural_similarity(
    one: Pictures, other: Pictures, *, data_range: float = 1.0, weights: tuple[float, ...] = SCALES
) -> PerPicture:
    """MS-SSIM: contrast and structure at each of five scales, luminance at the last, each to the power of its weight.

    Shapes: "b h w c" -> "b". Wang et al. 2003 (doi 10.1109/ACSSC.2003.1292216, eq. 7); a scale is the one before it,
    averaged 2 x 2 (an odd last row or column is left out). Means are taken for each channel, those less than 0 as 0,
    which have no real power. Raises `UserError`: pictures whose smallest scale is smaller than the window (176 pixels
    for five).
    """
    one, other = jnp.asarray(one, jnp.float32), jnp.asarray(other, jnp.float32)
    product = jnp.ones((one.shape[0], one.shape[-1]), jnp.float32)
    for scale, weight in enumerate(weights):
        if scale:
            one, other = _halved(one), _halved(other)
        similarity, structure = _maps(one, other, data_range)
        last = scale == len(weights) - 1
        seen = jnp.mean(similarity if last else structure, axis=(1, 2))
        # A power of 0 has no finite gradient.
        product *= jnp.where(seen > 0, jnp.where(seen > 0, seen, 1.0) ** weight, 0.0)
    return jnp.mean(product, axis=-1)


def _maps(one: Pictures, other: Pictures, data_range: float) -> tuple[Array, Array]:
    """SSIM at every place whose window is inside, and its part without luminance."""
    if one.shape != other.shape:
        raise UserError(f"pictures of shape {one.shape} cannot be compared with pictures of shape {other.shape}")
    if min(one.shape[1:3]) < WINDOW:
        raise UserError(
            f"pictures of {one.shape[1]} x {one.shape[2]} are smaller than the window of SSIM at this scale; expected "
            f"at least {WINDOW} x {WINDOW}"
        )
    one, other = jnp.asarray(one, jnp.float32), jnp.asarray(other, jnp.float32)
    # Variances are differences of squares: near the middle of the values these are small, and so is what float32 loses.
    middle = 0.5 * data_range
    x, y = one - middle, other - middle
    mean_x, mean_y = _smoothed(x), _smoothed(y)
    var_x, var_y = _smoothed(x * x) - mean_x * mean_x, _smoothed(y * y) - mean_y * mean_y
    both = _smoothed(x * y) - mean_x * mean_y
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_x, mean_y = mean_x + middle, mean_y + middle
    structure = (2 * both + c2) / (var_x + var_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance * structure, structure


def _smoothed(pictures: Array) -> Array:
    """The Gaussian mean of each window that is inside, one axis after the other."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    kernel = np.exp(-(offsets**2) / (2 * SIGMA**2))
    kernel /= kernel.sum()
    for axis in (1, 2):
        length = pictures.shape[axis] - WINDOW + 1
        taps = [pictures[:, i : i + length] if axis == 1 else pictures[:, :, i : i + length] for i in range(WINDOW)]
        pictures = sum(
            (float(k) * tap for k, tap in zip(kernel[1:], taps[1:], strict=True)), float(kernel[0]) * taps[0]
        )
    return pictures


def _halved(pictures: Array) -> Array:
    b, h, w, c = pictures.shape
    even = pictures[:, : h // 2 * 2, : w // 2 * 2]
    return even.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
