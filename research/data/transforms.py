"""What is done to an image: once on the host (decode, fit, channels), and per example inside the compiled step.

Host functions take and return uint8 NumPy images "h w c". Those of the step are pure, take one float32 image and a key
where they draw, and are the identity at zero strength.
"""

import io

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8
from PIL import Image, UnidentifiedImageError

from research.errors import UserError

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def decode(data: bytes, channels: int, where: str) -> UInt8[np.ndarray, "h w {channels}"]:
    """An encoded image (PNG, JPEG, ...) with 1, 3 or 4 channels. Raises `UserError` naming `where` it came from."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image if image.mode == _MODES[channels] else image.convert(_MODES[channels]))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{where} is not a readable image, or is cut short") from error
    return pixels.reshape(*pixels.shape[:2], channels)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with antialiasing: Pillow's filter widens with the reduction. One channel at a time, or RGB at once."""
    if image.shape[-1] not in (1, 3):
        return np.concatenate([_resize(image[..., i : i + 1], height, width) for i in range(image.shape[-1])], axis=-1)
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).reshape(height, width, -1)


def resize(image: UInt8[np.ndarray, "h w c"], resolution: int) -> UInt8[np.ndarray, "{resolution} {resolution} c"]:
    """Short side to `resolution` pixels, antialiased, then the centre square of it."""
    height, width = image.shape[:2]
    if (height, width) != (resolution, resolution):
        scale = resolution / min(height, width)
        height, width = max(round(height * scale), resolution), max(round(width * scale), resolution)
        image = _resize(image, height, width)
    top, left = (height - resolution) // 2, (width - resolution) // 2
    return image[top : top + resolution, left : left + resolution]


def pad(image: UInt8[np.ndarray, "h w c"], resolution: int) -> UInt8[np.ndarray, "{resolution} {resolution} c"]:
    """Zeros around the centred image. Raises `UserError` when the image is larger than `resolution` pixels."""
    height, width, channels = image.shape
    if max(height, width) > resolution:
        raise UserError(
            f"data.resolution is {resolution}, smaller than the data's {height}x{width}, which data.fit=pad cannot "
            f"reduce; expected at least {max(height, width)}, or data.fit=resize"
        )
    padded = np.zeros((resolution, resolution, channels), np.uint8)
    top, left = (resolution - height) // 2, (resolution - width) // 2
    padded[top : top + height, left : left + width] = image
    return padded


def to_channels(image: UInt8[np.ndarray, "h w c"], channels: int) -> UInt8[np.ndarray, "h w {channels}"]:
    """1 -> 3 by repeating, 3 -> 1 by luma (0.299 R + 0.587 G + 0.114 B, ITU-R BT.601). Raises `UserError` otherwise."""
    if image.shape[-1] == channels:
        return image
    if (image.shape[-1], channels) == (1, 3):
        return np.repeat(image, 3, axis=-1)
    if (image.shape[-1], channels) == (3, 1):
        weighted = image.astype(np.uint32) @ np.array([299, 587, 114], np.uint32)
        return ((weighted + 500) // 1000).astype(np.uint8)[..., None]
    raise UserError(f"data.channels is {channels}; images of {image.shape[-1]} channels have no conversion to that")


def normalise(
    images: Float[Array, "*b h w c"], mean: Float[Array, " c"], std: Float[Array, " c"]
) -> Float[Array, "*b h w c"]:
    """(images - mean) / std per channel; the identity at mean 0 and std 1."""
    shape = (1,) * (images.ndim - 1) + mean.shape
    return (images - mean.reshape(shape)) / std.reshape(shape)


def random_flip(key: Key[Array, ""], image: Float[Array, "h w c"], probability: float = 0.5) -> Float[Array, "h w c"]:
    """The image, or with `probability` its mirror image (left to right)."""
    return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)


def pad_and_crop(key: Key[Array, ""], image: Float[Array, "h w c"], pixels: int) -> Float[Array, "h w c"]:
    """A random crop of the image's own size after `pixels` zeros were put on each side (He et al. 2015, sec. 4.2)."""
    padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
    return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), image.shape)
