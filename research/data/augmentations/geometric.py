"""Where the pixels of an example come from: flips and crops. Each takes a key first and its strength third."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def random_flip(key: Key[Array, ""], image: Float[Array, "h w c"], probability: float = 0.5) -> Float[Array, "h w c"]:
    """The image, or with `probability` its mirror image (left to right)."""
    return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)


def pad_and_crop(key: Key[Array, ""], image: Float[Array, "h w c"], pixels: int) -> Float[Array, "h w c"]:
    """A random crop of the image's own size after `pixels` zeros were put on each side (He et al. 2015, sec. 4.2)."""
    padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
    return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), image.shape)
