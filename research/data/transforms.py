"""What is done to every image, drawn or not: decode, fit and channels on the host, normalise inside the step.

Host functions take and return uint8 NumPy images "h w c". What is drawn anew for each example is in `augmentations`.
"""

import contextlib
import io
import math
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Literal

import numpy as np
from etils import epath
from jaxtyping import Array, Float, UInt8
from PIL import Image

from research import storage
from research.data.stored import Encoded
from research.errors import UserError

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Pillow reads more formats, one of them (EPS) by running another program on the file; these are pictures and no more.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 2**27  # that a header may declare: more than any camera takes; as RGB they are 400 MB
MOST_BYTES = 8 * MOST_PIXELS  # of a file: so many pixels without compression, four channels of 16 bits
# Where Pillow looks at sizes too, within frames, it warns from here on and raises from twice as many on.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS
warnings.filterwarnings("ignore", module=r"PIL\.")  # what it warns of is refused here, or is no matter
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError),
    *(IndexError, KeyError, TypeError, OverflowError),
)
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the type of colour; PNG (third edition), table 8
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class UnreadableImage(UserError):
    """A file or record that should be an image and cannot be decoded."""


def contents(image: Encoded) -> bytes:
    """The bytes of an image's file or record. Raises `UnreadableImage`."""
    try:
        return image.read()
    except OSError as error:
        raise UnreadableImage(f"{image.where} cannot be read: {error.strerror or error}") from error


def read_file(file: epath.PathLike) -> bytes:
    """The bytes of an image file. Raises `UnreadableImage`: no file, a pipe or device that may never end, too large."""
    if storage.is_remote(file):
        if (content := storage.read(file)) is None:
            raise UnreadableImage(f"image {str(file)!r} does not exist")
        return content
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # a pipe is then opened, and not waited for
        with open(descriptor, "rb") as opened_file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise UnreadableImage(f"image {str(file)!r} is no file")
            if found.st_size > MOST_BYTES:
                raise UnreadableImage(f"image {str(file)!r} has {found.st_size} bytes; expected at most {MOST_BYTES}")
            return opened_file.read()
    except FileNotFoundError as error:
        raise UnreadableImage(f"image {str(file)!r} does not exist") from error
    except IsADirectoryError as error:
        raise UnreadableImage(f"image {str(file)!r} is no file") from error
    except OSError as error:  # not permitted, too long a name, links without end
        raise UnreadableImage(f"image {str(file)!r} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def opened(data: bytes, where: str) -> Iterator[Image.Image]:
    """An encoded image, of which only the header is read so far. Raises `UnreadableImage` whenever it turns out bad."""
    try:
        _check_png(data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UnreadableImage(
                    f"{where} declares {image.width}x{image.height} pixels; expected at most {MOST_PIXELS} of them"
                )
            yield image
    except UnreadableImage:
        raise
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{where} is not a readable image, or is cut short") from error


def _check_png(data: bytes) -> None:
    """Raise `ValueError` where a chunk of a PNG lacks its checksum, or chunks or rows are missing: Pillow reads on."""
    if not data.startswith(_PNG):
        return
    at, found, kind, pixels = len(_PNG), set[bytes](), b"", list[memoryview]()
    while kind != b"IEND":
        (length,) = struct.unpack_from(">I", data, at)
        body = memoryview(data)[at + 4 : at + 8 + length]
        if zlib.crc32(body) != struct.unpack_from(">I", data, at + 8 + length)[0]:
            raise ValueError("a chunk without its checksum")
        kind = bytes(body[:4])
        found.add(kind)
        if kind == b"IDAT":
            pixels.append(body[4:])
        at += 12 + length
    if data[25] == 3 and b"PLTE" not in found:
        raise ValueError("a palette that is not there")
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, len(_PNG) + 8)
    if width * height > MOST_PIXELS:
        return  # it is refused for that
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - left) // right), -(-(height - top) // down)) for left, top, right, down in passes]
    bits = depth * _PNG_CHANNELS.get(colour, 0)
    missing = sum(down * (1 + -(-across * bits // 8)) for across, down in sizes if across > 0 and down > 0)
    inflated = zlib.decompressobj()
    for body in pixels:
        rest: bytes | memoryview = body
        while rest and missing > 0:
            missing -= len(inflated.decompress(rest, 1 << 20))
            rest = inflated.unconsumed_tail
    if missing > 0:
        raise ValueError("rows that are not there")


def in_mode(image: Image.Image, channels: int) -> Image.Image:
    """The image as grey, RGB or RGBA (1, 3 or 4 channels), 8 bits each; of 16 bits the high 8.

    Raises `ValueError` for numbers that are no light of 8 or 16 bits: what white is, the file does not say.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):  # of 0 to 65535
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # Pillow's own conversion would saturate
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}")
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
