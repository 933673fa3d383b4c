"""Parts of a normalised image that are taken away. Each takes a key first and its strength third."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from research.data.augmentations import boxes

AREA, RATIO = (0.02, 0.33), (0.3, 3.3)  # of the erased rectangle: share of the image, width over height
ATTEMPTS = 10  # rectangles drawn before nothing is erased; the paper draws until one fits


def cutout(key: Key[Array, ""], image: Float[Array, "h w c"], pixels: int) -> Float[Array, "h w c"]:
    """Zeros in a square of `pixels` around any pixel, cut at the border (DeVries and Taylor 2017, arXiv:1708.04552)."""
    if not pixels:
        return image
    height, width, _ = image.shape
    square = boxes.around((height, width), key, pixels, pixels)
    return jnp.where(boxes.inside(square, height, width), 0, image)


def random_erasing(key: Key[Array, ""], image: Float[Array, "h w c"], probability: float) -> Float[Array, "h w c"]:
    """With `probability` a rectangle of noise, standard normal in each value (Zhong et al. 2017, arXiv:1708.04896).

    Area and ratio are torchvision's (the paper: area to 0.4, ratio not in logarithms); the noise is that of an image
    of mean 0 and deviation 1, where the paper's is uniform over the levels 0 to 255.
    """
    height, width, _ = image.shape
    whether, of_box, of_noise = jax.random.split(key, 3)
    box, found = boxes.draw((height, width), of_box, AREA, RATIO, ATTEMPTS)
    erased = boxes.inside(box, height, width) & found & jax.random.bernoulli(whether, probability)
    noise = jax.random.normal(of_noise, (image.size,), image.dtype)  # drawn flat: compiles faster
    return jnp.where(erased, noise.reshape(image.shape), image)
