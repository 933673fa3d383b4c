"""Pairs of examples mixed: 2i with 2i + 1 of the batch, so that a part of even length mixes as it does in the whole.

Each example draws with its own key how it is mixed with its neighbour. An example with mask 0 is mixed into no other.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, Shaped

from research.data.augmentations import boxes
from research.errors import UserError


def neighbours(array: Shaped[Array, "b ..."]) -> Shaped[Array, "b ..."]:
    """The other of each pair. Raises `UserError` on an odd number."""
    if len(array) % 2:
        raise UserError(f"a batch part of {len(array)} examples has no pairs to mix; expected an even data.batch_size")
    return array.reshape(-1, 2, *array.shape[1:])[:, ::-1].reshape(array.shape)


def _weigh(
    own: Float[Array, "b h w 1"],
    images: Float[Array, "b h w c"],
    labels: Float[Array, "b k"],
    mask: Float[Array, " b"],
) -> tuple[Float[Array, "b h w c"], Float[Array, "b k"]]:
    """Images, and labels by the mean weight, with weight `own` from each example and the rest from its neighbour."""
    own = jnp.where(neighbours(mask).reshape(-1, 1, 1, 1) > 0, own, 1)
    share = own.mean(axis=(1, 2))
    return own * images + (1 - own) * neighbours(images), share * labels + (1 - share) * neighbours(labels)


def mixup(
    keys: Key[Array, " b"],
    images: Float[Array, "b h w c"],
    labels: Float[Array, "b k"],
    mask: Float[Array, " b"],
    alpha: float,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b k"]]:
    """lambda x own + (1 - lambda) x neighbour, lambda from Beta(alpha, alpha) (Zhang et al. 2017, arXiv:1710.09412)."""
    if not alpha:
        return images, labels
    own = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)
    own = jnp.broadcast_to(own.reshape(-1, 1, 1, 1), (*images.shape[:3], 1))
    return _weigh(own, images, labels, mask)


def _kept(size: tuple[int, int], key: Key[Array, ""], alpha: float) -> Bool[Array, "h w 1"]:
    of_share, of_box = jax.random.split(key)
    side = jnp.sqrt(1 - jax.random.beta(of_share, alpha, alpha))
    height, width = (jnp.floor(side * length).astype(jnp.int32) for length in size)
    return ~boxes.inside(boxes.around(size, of_box, height, width), *size)


def cutmix(
    keys: Key[Array, " b"],
    images: Float[Array, "b h w c"],
    labels: Float[Array, "b k"],
    mask: Float[Array, " b"],
    alpha: float,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b k"]]:
    """A box of the neighbour in each image, its share of the image in the label (Yun et al. 2019, arXiv:1905.04899).

    The box's area is 1 - lambda of the image, lambda from Beta(alpha, alpha), around any pixel and then cut at the
    border; the label goes by what is left of it. The released code makes both sides even; here they are whole.
    """
    if not alpha:
        return images, labels
    height, width = images.shape[1:3]
    kept = jax.vmap(functools.partial(_kept, (height, width), alpha=alpha))(keys)
    return _weigh(kept.astype(images.dtype), images, labels, mask)
