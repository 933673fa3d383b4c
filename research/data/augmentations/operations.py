"""The operations that learned and random policies draw from, as Pillow computes them, so that any one can be applied.

Under `vmap` a switch between image operations would compute them all. So one operation is a table of 256 entries per
channel, a blend with grey, a blend with a smoothed image and an affine map: each the identity unless it is drawn, and
each applied once. Checked against Pillow operation by operation in the tests.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from research.data.augmentations import boxes
from research.data.augmentations.colour import blend, grey, mean_grey

FILL = 128.0  # where a map reaches over the border; the papers' released code


class Operation(NamedTuple):
    """What an operation's value is at no magnitude and at full magnitude; linear between. Signed: either way."""

    name: str
    least: float
    most: float
    signed: bool = False


# Cubuk et al. 2018 (arXiv:1805.09501), table 6, without Cutout and Sample Pairing, which no published policy uses, and
# with RandAugment's identity. Where the sources differ:
# - TranslateX/Y: the paper's 150 pixels of its 331, as a share of the side (torchvision too; TensorFlow's code: 250 or
#   100 pixels whatever the size, and 10 in the CIFAR code).
# - Solarize, Posterize: stronger with magnitude (torchvision). The paper gives ranges only; TensorFlow's code takes the
#   magnitude for the threshold and for the bits, so that it is weaker, and posterizes to 0 to 4 bits.
# - Colour, contrast, brightness, sharpness: from 0.1 to 1.9, so level 0 of the tables is nearly grey (the paper,
#   TensorFlow's code); torchvision takes 1 plus or minus up to 0.9 with a drawn sign, and level 0 for nothing.
OPERATIONS = (
    Operation("identity", 0, 0),
    Operation("shear_x", 0, 0.3, signed=True),  # pixels a row, about the top left corner
    Operation("shear_y", 0, 0.3, signed=True),
    Operation("translate_x", 0, 150 / 331, signed=True),  # share of the side
    Operation("translate_y", 0, 150 / 331, signed=True),
    Operation("rotate", 0, 30, signed=True),  # degrees, about the centre
    Operation("autocontrast", 0, 0),
    Operation("invert", 0, 0),
    Operation("equalize", 0, 0),
    Operation("solarize", 256, 0),  # levels from this one on are inverted
    Operation("posterize", 8, 4),  # bits kept, rounded; never fewer than 1
    Operation("contrast", 0.1, 1.9),
    Operation("color", 0.1, 1.9),
    Operation("brightness", 0.1, 1.9),
    Operation("sharpness", 0.1, 1.9),
)
PLACES = {operation.name: place for place, operation in enumerate(OPERATIONS)}

Counts = Int[Array, "c 256"]
Table = Float[Array, "c 256"]
Matrix = Float[Array, "6"]
Scalar = Float[Array, ""]


def value_at(name: str, magnitude: float) -> float:
    """The operation's value at a magnitude from 0 to 1; beyond 1 the line goes on."""
    operation = OPERATIONS[PLACES[name]]
    return operation.least + (operation.most - operation.least) * magnitude


def apply(
    image: Float[Array, "h w c"], operation: Int[Array, ""], value: Scalar, among: Iterable[str]
) -> Float[Array, "h w c"]:
    """The image (whole levels, 0 to 255) after the operation at place `operation` of `OPERATIONS`, one of `among`.

    Nothing is computed for operations that are not `among` the names. Every kind reads the image itself and not what
    another kind made of it, which XLA would compute again for each pixel that is read.
    """
    names = set(among)
    maps, tables, blends = ([name for name in kind if name in names] for kind in (_MAPS, _TABLES, _BLENDS))
    result = _warp(image, _matrix(image, operation, value, maps)) if maps else image
    if tables:
        result = _look_up(result, _table(image, operation, value, tables))
    if blends:
        plain = image
        for name in blends:
            plain = jnp.where(operation == PLACES[name], _BLENDS[name](image), plain)
        drawn = jnp.stack([operation == PLACES[name] for name in blends]).any()
        result = jnp.where(drawn, blend(plain, image, value), result)
    return result


def _levels() -> Float[Array, "1 256"]:
    return jnp.arange(256, dtype=jnp.float32)[None]


def _table(image: Float[Array, "h w c"], operation: Int[Array, ""], value: Scalar, names: list[str]) -> Table:
    """The table of the operation, or that of nothing where it is none of `names`.

    Chosen by a product with ones and zeros, exact at any precision: whole numbers up to 255 have 8 bits. XLA computes
    its result once; of a `where` it would compute the entry anew for each pixel that looks it up.
    """
    shape, counts = (image.shape[-1], 256), _histogram(image)
    tables = [_levels(), *(_TABLES[name](image, counts, value) for name in names)]
    chosen = jnp.stack([operation == PLACES[name] for name in names])
    chosen = jnp.concatenate([~chosen.any(keepdims=True), chosen]).astype(jnp.float32)
    return jnp.einsum("n,nck->ck", chosen, jnp.stack([jnp.broadcast_to(table, shape) for table in tables]))


def _histogram(image: Float[Array, "h w c"]) -> Int[Array, "c 256"]:
    channels = image.shape[-1]
    counts = jnp.zeros(channels * 256, jnp.int32).at[_places(image).reshape(-1)].add(1, mode="promise_in_bounds")
    return counts.reshape(channels, 256)


def _places(image: Float[Array, "h w c"]) -> Int[Array, "h w c"]:
    """Where each value stands in a table "c 256" laid out in one row."""
    return image.astype(jnp.int32) + (256 * jnp.arange(image.shape[-1])).reshape(1, 1, -1)


def _look_up(image: Float[Array, "h w c"], table: Float[Array, "_ 256"]) -> Float[Array, "h w c"]:
    return jnp.take(jnp.broadcast_to(table, (image.shape[-1], 256)).reshape(-1), _places(image), mode="clip")


def _posterize(image: Float[Array, "h w c"], counts: Counts, value: Scalar) -> Float[Array, "1 256"]:
    step = 2 ** (8 - jnp.clip(jnp.round(value), 1, 8).astype(jnp.int32))
    levels = jnp.arange(256)[None]
    return (levels - levels % step).astype(jnp.float32)


def _autocontrast(image: Float[Array, "h w c"], counts: Counts, value: Scalar) -> Table:
    """The channel's least level to 0 and its greatest to 255; a channel of one level stays.

    Rounded down from the exact value. Pillow's doubles fall below a whole number here and there, and it then gives one
    level less.
    """
    levels = jnp.arange(256)[None]
    low = jnp.where(counts > 0, levels, 255).min(axis=1, keepdims=True)
    high = jnp.where(counts > 0, levels, 0).max(axis=1, keepdims=True)
    stretched = jnp.clip((levels - low) * 255 // jnp.maximum(high - low, 1), 0, 255)
    return jnp.where(high > low, stretched, levels).astype(jnp.float32)


def _equalize(image: Float[Array, "h w c"], counts: Counts, value: Scalar) -> Table:
    """Pillow's, in whole numbers: levels by how many pixels lie below, in steps of a 255th of all but the brightest."""
    below = jnp.cumsum(counts, axis=1) - counts
    not_brightest = jnp.where(counts > 0, below, 0).max(axis=1, keepdims=True)
    step = not_brightest // 255
    equal = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, equal, jnp.arange(256)[None]).astype(jnp.float32)


# From the image, its histogram and the operation's value.
_TABLES: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "autocontrast": _autocontrast,
    "invert": lambda image, counts, value: 255 - _levels(),
    "equalize": _equalize,
    "solarize": lambda image, counts, value: jnp.where(_levels() < value, _levels(), 255 - _levels()),
    "posterize": _posterize,
    "contrast": lambda image, counts, value: blend(mean_grey(image), _levels(), value),
    "brightness": lambda image, counts, value: blend(jnp.zeros(()), _levels(), value),
}


def _smooth(image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    """Pillow's SMOOTH: (1 1 1, 1 5 1, 1 1 1) over 13, rounded; the outermost pixels stay."""
    height, width, channels = image.shape
    flat = image.reshape(height, width * channels)  # a neighbour is `channels` away: long rows are quick on CPUs
    padded = jnp.pad(flat, ((1, 1), (channels, channels)))
    columns = padded[:-2] + padded[1:-1] + padded[2:]
    around = columns[:, : -2 * channels] + columns[:, channels:-channels] + columns[:, 2 * channels :]
    inner = boxes.inside(boxes.Box(1, channels, height - 2, (width - 2) * channels), *flat.shape)[..., 0]
    return jnp.where(inner, jnp.floor((around + 4 * flat) / 13 + 0.5), flat).reshape(image.shape)


# What an image is blended with, by the operation's value.
_BLENDS: dict[str, Callable[[jax.Array], jax.Array]] = {"color": grey, "sharpness": _smooth}


def _rotation(image: Float[Array, "h w c"], value: Scalar) -> tuple[Scalar | float, ...]:
    x, y = image.shape[1] / 2, image.shape[0] / 2
    cosine, sine = jnp.cos(jnp.deg2rad(value)), jnp.sin(jnp.deg2rad(value))
    return cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y


# From a place in the result to one in the image: (a b c, d e f) of x' = a x + b y + c, y' = d x + e y + f.
_MAPS: dict[str, Callable[[jax.Array, jax.Array], tuple[Scalar | float, ...]]] = {
    "shear_x": lambda image, value: (1.0, value, 0.0, 0.0, 1.0, 0.0),
    "shear_y": lambda image, value: (1.0, 0.0, 0.0, value, 1.0, 0.0),
    "translate_x": lambda image, value: (1.0, 0.0, value * image.shape[1], 0.0, 1.0, 0.0),
    "translate_y": lambda image, value: (1.0, 0.0, 0.0, 0.0, 1.0, value * image.shape[0]),
    "rotate": _rotation,
}


def _matrix(image: Float[Array, "h w c"], operation: Int[Array, ""], value: Scalar, names: list[str]) -> Matrix:
    matrix = jnp.array([1.0, 0, 0, 0, 1, 0])
    for name in names:
        moved = jnp.stack([jnp.asarray(entry, jnp.float32) for entry in _MAPS[name](image, value)])
        matrix = jnp.where(operation == PLACES[name], moved, matrix)
    return matrix


def _warp(image: Float[Array, "h w c"], matrix: Matrix) -> Float[Array, "h w c"]:
    """Nearest neighbour, grey outside, in Pillow's 16.16 fixed point: places at pixel centres."""
    height, width, channels = image.shape
    a, b, c, d, e, f = matrix
    fixed = jnp.stack([a, b, c + (a + b) / 2, d, e, f + (d + e) / 2])
    a, b, c, d, e, f = jnp.floor(fixed * 2**16 + 0.5).astype(jnp.int32)
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None]
    x, y = (columns * a + rows * b + c) >> 16, (columns * d + rows * e + f) >> 16
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    moved = jnp.take(image.reshape(-1, channels), jnp.where(within, y * width + x, 0), axis=0, mode="clip")
    return jnp.where(within[..., None], moved, FILL)
