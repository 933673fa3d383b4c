"""Random-resized crops on the host: a box drawn by hash, cut from the decoded image and resized with antialiasing.

An example's box depends on its own salt alone, so neither the order of reading nor the number of readers changes it.
"""

import hashlib
import math

import numpy as np
from jaxtyping import UInt8

from research.data import transforms
from research.data.stored import Encoded

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop


def _draws(salt: tuple[int, ...], attempt: int) -> list[float]:
    """Four numbers in [0, 1), fixed by `salt` and `attempt`: the 64-bit words of a sha256, their high 53 bits each.

    A hash needs no generator to be set up and is the same in every version of everything.
    """
    digest = hashlib.sha256(repr((salt, attempt)).encode()).digest()
    return [(int.from_bytes(digest[i : i + 8], "little") >> 11) * 2.0**-53 for i in range(0, 32, 8)]


def crop_box(
    height: int, width: int, *, area: tuple[float, float], ratio: tuple[float, float], salt: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """(top, left, height, width) in pixels of an Inception-style crop of an image, fixed by `salt`.

    A share of the image's area, uniform in `area`, and a width over height, log-uniform in `ratio`, then a place,
    uniform among those that fit (Szegedy et al. 2014, arXiv:1409.4842, sec. 6). After ten draws that do not fit, as
    in torchvision, the largest centre crop within the ratio's bounds.
    """
    salt = tuple(map(int, salt))  # NumPy's integers have another repr
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for attempt in range(_ATTEMPTS):
        share, shape, vertical, horizontal = _draws(salt, attempt)
        pixels = height * width * (area[0] + share * (area[1] - area[0]))
        aspect = math.exp(low + shape * (high - low))
        h, w = round(math.sqrt(pixels / aspect)), round(math.sqrt(pixels * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(vertical * (height - h + 1)), int(horizontal * (width - w + 1)), h, w
    h = min(height, max(round(width / ratio[0]), 1))
    w = min(width, max(round(height * ratio[1]), 1))
    return (height - h) // 2, (width - w) // 2, h, w


def random_resized_crop(
    image: np.ndarray | Encoded,
    *,
    size: tuple[int, int],
    channels: int,
    area: tuple[float, float],
    ratio: tuple[float, float],
    salt: tuple[int, ...],
) -> UInt8[np.ndarray, "h w {channels}"]:
    """`crop_box` of an image, uint8 or as its file holds it, resized to `size` (height, width): uint8 "h w channels".

    Bilinear with antialiasing. Where the crop of a JPEG is at least twice `size`, libjpeg's inverse transform does the
    first halvings, each the mean of 2x2 pixels, at less cost. Raises `UnreadableImage`.
    """
    if isinstance(image, np.ndarray):
        top, left, h, w = crop_box(*image.shape[:2], area=area, ratio=ratio, salt=salt)
        cropped = transforms.resample(transforms.pictured(image[top : top + h, left : left + w]), *size)
        return transforms.to_channels(cropped, channels)
    with transforms.opened(transforms.contents(image), image.where) as picture:
        width, height = picture.size
        top, left, h, w = crop_box(height, width, area=area, ratio=ratio, salt=salt)
        halvings = min(h // size[0], w // size[1], 8).bit_length() - 1
        if halvings > 0:
            picture.draft(None, (width >> halvings, height >> halvings))  # JPEG only, and only by 2, 4 or 8
        scale = 0.5**halvings if picture.size != (width, height) else 1
        box = (left * scale, top * scale, (left + w) * scale, (top + h) * scale)
        # Straight from Pillow's decoder: as an array in between, the whole image would be copied twice.
        cropped = transforms.resample(transforms.in_mode(picture, image.channels), *size, box=box)
    return transforms.to_channels(cropped, channels)
