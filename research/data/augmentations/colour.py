"""Colour jitter: brightness, contrast, saturation, hue. Key first, strength third; levels stay whole, from 0 to 255.

The first three blend the image with a plainer one by a factor from 1 - strength to 1 + strength, as Pillow's
`ImageEnhance` and torchvision's `ColorJitter` do.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def grey(image: Float[Array, "h w c"]) -> Float[Array, "h w 1"]:
    """Luma of RGB, rounded as Pillow does (ITU-R BT.601 in 16 bits); of other channel counts their mean."""
    if image.shape[-1] != 3:
        return jnp.round(image.mean(axis=-1, keepdims=True))
    weighted = image.astype(jnp.int32) * jnp.array([19595, 38470, 7471]).reshape(1, 1, 3)
    return ((weighted.sum(axis=-1, keepdims=True) + 2**15) >> 16).astype(image.dtype)


def mean_grey(image: Float[Array, "h w c"]) -> Float[Array, ""]:
    """The mean of `grey`, rounded to a whole level."""
    plain = grey(image).astype(jnp.int32)  # exact below 4 million pixels
    return ((2 * plain.sum() + plain.size) // (2 * plain.size)).astype(image.dtype)


def blend(
    plain: Float[Array, "..."], image: Float[Array, "..."], factor: Float[Array, ""] | float
) -> Float[Array, "..."]:
    """plain + factor x (image - plain), cut to 0..255 and then to a whole level (Pillow's `Image.blend`)."""
    return jnp.floor(jnp.clip(plain + factor * (image - plain), 0, 255))


def _factor(key: Key[Array, ""], strength: float) -> Float[Array, ""]:
    return jax.random.uniform(key, (), jnp.float32, 1 - strength, 1 + strength)


def brightness(key: Key[Array, ""], image: Float[Array, "h w c"], strength: float) -> Float[Array, "h w c"]:
    """Blended with black."""
    return blend(jnp.zeros_like(image), image, _factor(key, strength))


def contrast(key: Key[Array, ""], image: Float[Array, "h w c"], strength: float) -> Float[Array, "h w c"]:
    """Blended with the image's mean grey."""
    return blend(mean_grey(image), image, _factor(key, strength))


def saturation(key: Key[Array, ""], image: Float[Array, "h w c"], strength: float) -> Float[Array, "h w c"]:
    """Blended with its own grey image; the identity on one channel."""
    return blend(grey(image), image, _factor(key, strength))


def hue(key: Key[Array, ""], image: Float[Array, "h w c"], strength: float) -> Float[Array, "h w c"]:
    """RGB turned on the colour circle by a share of it from -strength to strength, at the same HSV value and chroma.

    The identity on other than three channels. In floats, where Pillow's HSV knows 256 hues.
    """
    if image.shape[-1] != 3:
        return image
    turn = jax.random.uniform(key, (), jnp.float32, -strength, strength)
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = image.max(axis=-1)
    chroma = value - image.min(axis=-1)
    safe = jnp.maximum(chroma, 1)
    sixth = jnp.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4)
    sixth = jnp.where(value == red, (green - blue) / safe, sixth) + 6 * turn

    def channel(offset: int) -> jax.Array:
        place = offset + sixth
        place = place - 6 * jnp.floor(place / 6)  # `mod`, many times as quick on CPUs
        return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

    return jnp.clip(jnp.round(jnp.stack([channel(5), channel(3), channel(1)], axis=-1)), 0, 255)
