"""What is drawn anew for each training example, inside the compiled step: a function each, by theme.

An image is float32 "h w c", whole levels from 0 to 255, until it is normalised. Each function takes a key, the image
and its strength, and is the identity at zero strength; an example's draws depend on its own key alone, never on the
rest of the batch. What a config does not ask for is not computed.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key

from research.config import AugmentationConfig
from research.data.augmentations import colour
from research.data.augmentations.erasing import cutout, random_erasing
from research.data.augmentations.geometric import pad_and_crop, random_flip, random_resized_crop
from research.data.augmentations.mixing import cutmix, mixup
from research.data.augmentations.policies import POLICIES, autoaugment, randaugment
from research.data.transforms import normalise
from research.errors import UserError

JITTER = ("brightness", "contrast", "saturation", "hue")  # in this order; torchvision draws the order

# The place of a name is the number folded into an example's key for it: append, and no other draw changes.
DRAWS = (
    *("flip", "pad_and_crop", "random_resized_crop", "policy"),
    *JITTER,
    *("cutout", "random_erasing", "mixup", "cutmix", "mixup or cutmix"),
)


def key_for(name: str, key: Key[Array, ""]) -> Key[Array, ""]:
    """The key with which an example, whose own is `key`, draws what `name` of `DRAWS` says."""
    return jax.random.fold_in(key, DRAWS.index(name))


def example(
    cfg: AugmentationConfig,
    key: Key[Array, ""],
    image: Float[Array, "h w c"],
    mean: Float[Array, " c"],
    std: Float[Array, " c"],
) -> Float[Array, "h w c"]:
    """One image (0 to 255) as `cfg` draws it with `key`, normalised, in the order of `AugmentationConfig`'s fields."""
    if cfg.random_resized_crop:
        image = random_resized_crop(key_for("random_resized_crop", key), image, cfg.crop_area, cfg.crop_ratio)
    if cfg.flip:
        image = random_flip(key_for("flip", key), image)
    if cfg.pad_and_crop:
        recoloured = cfg.policy != "none" or any(getattr(cfg, name) for name in JITTER)
        fill = jnp.round(mean) if recoloured else mean  # recolouring is of whole levels; else 0 once normalised
        image = pad_and_crop(key_for("pad_and_crop", key), image, cfg.pad_and_crop, fill)
    if cfg.policy == "randaugment":
        image = randaugment(key_for("policy", key), image, cfg.layers, cfg.magnitude)
    elif cfg.policy != "none":
        image = autoaugment(key_for("policy", key), image, POLICIES[cfg.policy])
    for name in JITTER:
        if getattr(cfg, name):
            image = getattr(colour, name)(key_for(name, key), image, getattr(cfg, name))
    image = normalise(image, mean, std)
    if cfg.cutout:
        image = cutout(key_for("cutout", key), image, cfg.cutout)
    if cfg.random_erasing:
        image = random_erasing(key_for("random_erasing", key), image, cfg.random_erasing)
    return image


def mix(
    cfg: AugmentationConfig,
    keys: Key[Array, " b"],
    images: Float[Array, "b h w c"],
    labels: Float[Array, "b k"] | Integer[Array, " b"],
    mask: Float[Array, " b"],
    num_classes: int,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b k"] | Integer[Array, " b"]]:
    """Images and labels mixed with those of their neighbours in the batch; labels are then float32 "b num_classes".

    With both mixup and cutmix, each pair draws one of them with the key of its first example, both as likely.
    """
    if not (cfg.mixup or cfg.cutmix):
        return images, labels
    dense = jax.nn.one_hot(labels, num_classes) if labels.ndim == 1 else labels.astype(jnp.float32)

    def drawn(name: str) -> jax.Array:
        return jax.vmap(functools.partial(key_for, name))(keys)

    if not cfg.cutmix:
        return mixup(drawn("mixup"), images, dense, mask, cfg.mixup)
    cut = cutmix(drawn("cutmix"), images, dense, mask, cfg.cutmix)
    if not cfg.mixup:
        return cut
    mixed = mixup(drawn("mixup"), images, dense, mask, cfg.mixup)
    of_pairs = jnp.repeat(jax.vmap(jax.random.bernoulli)(drawn("mixup or cutmix")[::2]), 2)
    return (
        jnp.where(of_pairs.reshape(-1, 1, 1, 1), mixed[0], cut[0]),
        jnp.where(of_pairs.reshape(-1, 1), mixed[1], cut[1]),
    )


# What moves pixels, or mixes pictures, and leaves the labels where they are.
MOVES = ("random_resized_crop", "flip", "pad_and_crop", "policy", "mixup", "cutmix")


def check(cfg: AugmentationConfig, shape: tuple[int, int, int], *, places: bool = False) -> None:
    """Raise `UserError` where `cfg` cannot be meant for images of `shape` (height, width, channels).

    `places`: whether labels say where things are.
    """
    moving = [name for name in MOVES if getattr(cfg, name) not in (0, "none")] if places else []
    if moving:
        raise UserError(
            f"augmentation.{moving[0]} moves what the labels place, and leaves the labels as they are; expected only "
            f"{', '.join((*JITTER, 'cutout', 'random_erasing'))} for such data"
        )
    height, width, channels = shape
    for name in ("crop_area", "crop_ratio"):
        low, high = getattr(cfg, name)
        if low > high:
            raise UserError(f"augmentation.{name} is {(low, high)}; expected the lower bound first")
    if cfg.pad_and_crop >= min(height, width):
        raise UserError(
            f"augmentation.pad_and_crop is {cfg.pad_and_crop}, and a crop of {height}x{width} images could miss them; "
            f"expected at most {min(height, width) - 1}"
        )
    if cfg.cutout > 2 * min(height, width):
        raise UserError(
            f"augmentation.cutout is {cfg.cutout}, which leaves nothing of {height}x{width} images; expected at most "
            f"{2 * min(height, width)}"
        )
    for name in ("policy", "saturation", "hue"):
        if getattr(cfg, name) not in (0, "none") and channels not in (1, 3):
            raise UserError(
                f"augmentation.{name} is {getattr(cfg, name)}; expected images of 1 or 3 channels, not {channels}"
            )
