"""Where the pixels of an example come from: flips and crops. Each takes a key first and its strength third."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from research.data.augmentations import boxes

ATTEMPTS = 10  # boxes drawn before the centre is taken, as in torchvision and the Inception networks' released code


def random_flip(key: Key[Array, ""], image: Float[Array, "h w c"], probability: float = 0.5) -> Float[Array, "h w c"]:
    """The image, or with `probability` its mirror image (left to right)."""
    return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)


def pad_and_crop(
    key: Key[Array, ""], image: Float[Array, "h w c"], pixels: int, fill: Float[Array, " c"] | float = 0.0
) -> Float[Array, "h w c"]:
    """A random crop of the image's own size after `pixels` were put on each side (He et al. 2015, sec. 4.2).

    The paper pads with zeros after taking the mean away: `fill` is the mean, or 0 for an image that has mean 0.
    """
    height, width, channels = image.shape
    colour = jnp.broadcast_to(jnp.asarray(fill, image.dtype), (channels,)).reshape(1, 1, channels)
    border = jnp.broadcast_to(colour, (height + 2 * pixels, width + 2 * pixels, channels))
    padded = jax.lax.dynamic_update_slice(border, image, (pixels, pixels, 0))
    top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
    return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), image.shape)


def random_resized_crop(
    key: Key[Array, ""],
    image: Float[Array, "h w c"],
    area: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Float[Array, "h w c"]:
    """A random box of the image, enlarged to the image's own size and rounded to whole levels.

    `area`: share of the image, drawn uniformly; `ratio`: width over height, its logarithm drawn uniformly; sides and
    corner in whole pixels (Szegedy et al. 2014, arXiv:1409.4842, sec. 6; the numbers and the 10 attempts, after which
    the largest centred box within `ratio` is taken, are torchvision's). Bilinear; a pixel at the box's border sees its
    neighbours outside too, where torchvision cuts first. Area (1, 1) of a ratio that allows it is the image itself.
    """
    height, width, _ = image.shape
    own = width / height
    if tuple(area) == (1, 1) and ratio[0] <= own <= ratio[1]:
        return image
    drawn, found = boxes.draw((height, width), key, area, ratio, ATTEMPTS)
    short = max(round(width / ratio[0]), 1) if own < ratio[0] else height
    narrow = max(round(height * ratio[1]), 1) if own > ratio[1] else width
    centre = boxes.Box((height - short) // 2, (width - narrow) // 2, short, narrow)
    box = boxes.Box(*(jnp.where(found, a, b).astype(jnp.float32) for a, b in zip(drawn, centre, strict=True)))
    scale = jnp.stack([height / box.height, width / box.width])
    corner = jnp.stack([box.top, box.left])
    resized = jax.image.scale_and_translate(image, image.shape, (0, 1), scale, -corner * scale, "linear")
    return jnp.clip(jnp.round(resized), 0, 255)
