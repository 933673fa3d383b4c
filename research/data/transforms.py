"""What is done to every image, drawn or not: decode, fit and channels on the host, normalise inside the step.

Host functions take and return uint8 NumPy images "h w c". What is drawn anew for each example is in `augmentations`.
"""

import contextlib
import io
import math
import struct
from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from research.data.stored import Encoded
from research.errors import UserError

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class UnreadableImage(UserError):
    """A file or record that should be an image and cannot be decoded."""


def contents(image: Encoded) -> bytes:
    """The bytes of an image's file or record. Raises `UnreadableImage`."""
    try:
        return image.read()
    except OSError as error:
        raise UnreadableImage(f"{image.where} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def opened(data: bytes, where: str) -> Iterator[Image.Image]:
    """An encoded image, of which only the header is read so far. Raises `UnreadableImage` whenever it turns out bad."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except (OSError, SyntaxError, ValueError, struct.error, EOFError, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{where} is not a readable image, or is cut short") from error


def in_mode(image: Image.Image, channels: int) -> Image.Image:
    """The image as grey, RGB or RGBA (1, 3 or 4 channels), 8 bits each; of 16 bits the high 8."""
    if image.mode.startswith("I;16"):  # Pillow's own conversion would saturate
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == _MODES[channels] else image.convert(_MODES[channels])


def decode(data: bytes, channels: int, where: str) -> UInt8[np.ndarray, "h w {channels}"]:
    """An encoded image (PNG, JPEG, ...) with 1, 3 or 4 channels. Raises `UnreadableImage`: `where` it came from."""
    with opened(data, where) as image:
        pixels = np.asarray(in_mode(image, channels))
    return pixels.reshape(*pixels.shape[:2], channels)


def resample(
    picture: Image.Image,
    height: int,
    width: int,
    box: tuple[float, float, float, float] | None = None,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> UInt8[np.ndarray, "{height} {width} c"]:
    """The `box` (left, top, right, bottom; default: all) of a picture at a new size, antialiased.

    Pillow's filter widens with the reduction. It sees nothing outside the box, and no colour through transparency.
    """
    if box is not None:
        left, top, right, bottom = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
        picture = picture.crop((left, top, right, bottom))
        box = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    bands = picture.split() if picture.mode in ("LA", "RGBA") else (picture,)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    resized = [np.asarray(band.resize((width, height), filters[interpolation], box=box)) for band in bands]
    return resized[0].reshape(height, width, -1) if len(bands) == 1 else np.stack(resized, axis=-1)


def pictured(image: UInt8[np.ndarray, "h w c"]) -> Image.Image:
    """An image of 1 to 4 channels as Pillow's."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def resize(
    image: UInt8[np.ndarray, "h w c"],
    resolution: int,
    crop_fraction: float = 1.0,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> UInt8[np.ndarray, "{resolution} {resolution} c"]:
    """Short side to `resolution / crop_fraction` pixels, antialiased, then the centre square of `resolution`."""
    height, width = image.shape[:2]
    short = round(resolution / crop_fraction)
    if (height, width) != (short, short):
        scale = short / min(height, width)
        height, width = max(round(height * scale), short), max(round(width * scale), short)
        image = resample(pictured(image), height, width, interpolation=interpolation)
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
