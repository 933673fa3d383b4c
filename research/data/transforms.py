"""What is done to every image, drawn or not: decode, fit and channels on the host, normalise inside the step.

Host functions take and return uint8 NumPy images "h w c". What is drawn anew for each example is in `augmentations`.
"""

import io

import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image, UnidentifiedImageError

from research.errors import UserError

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class UnreadableImage(UserError):
    """A file or record that should be an image and cannot be decoded."""


def decode(data: bytes, channels: int, where: str) -> UInt8[np.ndarray, "h w {channels}"]:
    """An encoded image (PNG, JPEG, ...) with 1, 3 or 4 channels. Raises `UnreadableImage`: `where` it came from."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image if image.mode == _MODES[channels] else image.convert(_MODES[channels]))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UnreadableImage(f"{where} is not a readable image, or is cut short") from error
    return pixels.reshape(*pixels.shape[:2], channels)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with antialiasing: Pillow's filter widens with the reduction. One channel at a time, or RGB at once."""
    if image.shape[-1] not in (1, 3):
        return np.concatenate([_resize(image[..., i : i + 1], height, width) for i in range(image.shape[-1])], axis=-1)
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).reshape(height, width, -1)


def resize(
    image: UInt8[np.ndarray, "h w c"], resolution: int, crop_fraction: float = 1.0
) -> UInt8[np.ndarray, "{resolution} {resolution} c"]:
    """Short side to `resolution / crop_fraction` pixels, antialiased, then the centre square of `resolution`."""
    height, width = image.shape[:2]
    short = round(resolution / crop_fraction)
    if (height, width) != (short, short):
        scale = short / min(height, width)
        height, width = max(round(height * scale), short), max(round(width * scale), short)
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
