"""Policies: which operations are applied to an image, how likely and how strongly."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from research.data.augmentations.operations import OPERATIONS, PLACES, apply, value_at


class Step(NamedTuple):
    """An operation, how likely it is applied, and its level: 0 to 9, evenly spaced over the operation's range."""

    operation: str
    probability: float
    level: int


Policy = tuple[tuple[Step, Step], ...]  # one pair is drawn for an image; its steps are applied one after the other

# Cubuk et al. 2018, "AutoAugment: Learning Augmentation Policies from Data" (arXiv:1805.09501), appendix, the policy
# learned on reduced ImageNet. Levels are tenths of the range in TensorFlow's code (9 is not the most) and ninths here
# as in torchvision: the paper's ranges are cut into 10 values.
IMAGENET: Policy = (
    (Step("posterize", 0.4, 8), Step("rotate", 0.6, 9)),
    (Step("solarize", 0.6, 5), Step("autocontrast", 0.6, 5)),
    (Step("equalize", 0.8, 8), Step("equalize", 0.6, 3)),
    (Step("posterize", 0.6, 7), Step("posterize", 0.6, 6)),
    (Step("equalize", 0.4, 7), Step("solarize", 0.2, 4)),
    (Step("equalize", 0.4, 4), Step("rotate", 0.8, 8)),
    (Step("solarize", 0.6, 3), Step("equalize", 0.6, 7)),
    (Step("posterize", 0.8, 5), Step("equalize", 1.0, 2)),
    (Step("rotate", 0.2, 3), Step("solarize", 0.6, 8)),
    (Step("equalize", 0.6, 8), Step("posterize", 0.4, 6)),
    (Step("rotate", 0.8, 8), Step("color", 0.4, 0)),
    (Step("rotate", 0.4, 9), Step("equalize", 0.6, 2)),
    (Step("equalize", 0.0, 7), Step("equalize", 0.8, 8)),
    (Step("invert", 0.6, 4), Step("equalize", 1.0, 8)),
    (Step("color", 0.6, 4), Step("contrast", 1.0, 8)),
    (Step("rotate", 0.8, 8), Step("color", 1.0, 2)),
    (Step("color", 0.8, 8), Step("solarize", 0.8, 7)),
    (Step("sharpness", 0.4, 7), Step("invert", 0.6, 8)),
    (Step("shear_x", 0.6, 5), Step("equalize", 1.0, 9)),
    (Step("color", 0.4, 0), Step("equalize", 0.6, 3)),
    (Step("equalize", 0.4, 7), Step("solarize", 0.2, 4)),
    (Step("solarize", 0.6, 5), Step("autocontrast", 0.6, 5)),
    (Step("invert", 0.6, 4), Step("equalize", 1.0, 8)),
    (Step("color", 0.6, 4), Step("contrast", 1.0, 8)),
    (Step("equalize", 0.8, 8), Step("equalize", 0.6, 3)),
)

# The same, the policy learned on reduced CIFAR-10.
CIFAR: Policy = (
    (Step("invert", 0.1, 7), Step("contrast", 0.2, 6)),
    (Step("rotate", 0.7, 2), Step("translate_x", 0.3, 9)),
    (Step("sharpness", 0.8, 1), Step("sharpness", 0.9, 3)),
    (Step("shear_y", 0.5, 8), Step("translate_y", 0.7, 9)),
    (Step("autocontrast", 0.5, 8), Step("equalize", 0.9, 2)),
    (Step("shear_y", 0.2, 7), Step("posterize", 0.3, 7)),
    (Step("color", 0.4, 3), Step("brightness", 0.6, 7)),
    (Step("sharpness", 0.3, 9), Step("brightness", 0.7, 9)),
    (Step("equalize", 0.6, 5), Step("equalize", 0.5, 1)),
    (Step("contrast", 0.6, 7), Step("sharpness", 0.6, 5)),
    (Step("color", 0.7, 7), Step("translate_x", 0.5, 8)),
    (Step("equalize", 0.3, 7), Step("autocontrast", 0.4, 8)),
    (Step("translate_y", 0.4, 3), Step("sharpness", 0.2, 6)),
    (Step("brightness", 0.9, 6), Step("color", 0.2, 8)),
    (Step("solarize", 0.5, 2), Step("invert", 0.0, 3)),
    (Step("equalize", 0.2, 0), Step("autocontrast", 0.6, 0)),
    (Step("equalize", 0.2, 8), Step("equalize", 0.6, 4)),
    (Step("color", 0.9, 9), Step("equalize", 0.6, 6)),
    (Step("autocontrast", 0.8, 4), Step("solarize", 0.2, 8)),
    (Step("brightness", 0.1, 3), Step("color", 0.7, 0)),
    (Step("solarize", 0.4, 5), Step("autocontrast", 0.9, 3)),
    (Step("translate_y", 0.9, 9), Step("translate_y", 0.7, 9)),
    (Step("autocontrast", 0.9, 2), Step("solarize", 0.8, 3)),
    (Step("equalize", 0.8, 8), Step("invert", 0.1, 3)),
    (Step("translate_y", 0.7, 9), Step("autocontrast", 0.9, 1)),
)

POLICIES = {"autoaugment_imagenet": IMAGENET, "autoaugment_cifar": CIFAR}

# Cubuk et al. 2019, "RandAugment" (arXiv:1909.13719), figure 2: 14 operations. TensorFlow's code has invert, cutout and
# solarize-add beside them and no identity.
RANDAUGMENT = (
    *("identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize"),
    *("contrast", "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y"),
)

_LEVELS = 9  # the highest level of a policy's step
_MAGNITUDES = 10  # RandAugment's full magnitude


def _signed(drawn: Float[Array, ""], place: Int[Array, ""], value: Float[Array, ""]) -> Float[Array, ""]:
    """The value or, where the operation has a sign and a number drawn from [0, 1) says so, its opposite."""
    either = jnp.array([operation.signed for operation in OPERATIONS])[place]
    return jnp.where(either & (drawn < 0.5), -value, value)


def _one_of(count: int, drawn: Float[Array, ""]) -> Int[Array, ""]:
    return jnp.floor(count * drawn).astype(jnp.int32)


def autoaugment(key: Key[Array, ""], image: Float[Array, "h w c"], policy: Policy) -> Float[Array, "h w c"]:
    """The two steps of a pair of `policy`, each pair as likely, each step with its probability (arXiv:1805.09501).

    The image has whole levels. On one channel, colour is the identity. An empty policy does nothing.
    """
    if not policy:
        return image
    steps = [step for pair in policy for step in pair]
    places = jnp.array([PLACES[step.operation] for step in steps]).reshape(-1, 2)
    probabilities = jnp.array([step.probability for step in steps], jnp.float32).reshape(-1, 2)
    values = jnp.array([value_at(step.operation, step.level / _LEVELS) for step in steps], jnp.float32).reshape(-1, 2)
    drawn = jax.random.uniform(key, (5,))
    pair = _one_of(len(policy), drawn[0])

    def step(image: jax.Array, row: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        place, probability, value, of_application, of_sign = row
        applied = jnp.where(of_application < probability, place, PLACES["identity"])
        return apply(image, applied, _signed(of_sign, place, value), {step.operation for step in steps}), None

    # A scan, also where it is short: the image between two steps is kept, not computed again by each of its readers.
    rows = (places[pair], probabilities[pair], values[pair], drawn[1:3], drawn[3:5])
    return jax.lax.scan(step, image, rows)[0]


def randaugment(
    key: Key[Array, ""], image: Float[Array, "h w c"], layers: int, magnitude: float = 9.0
) -> Float[Array, "h w c"]:
    """`layers` operations, each drawn anew of 14, all of one `magnitude` (Cubuk et al. 2019, arXiv:1909.13719).

    Magnitude 10 is the end of each operation's range in `OPERATIONS`. Beyond it the line goes on: rotations by more
    than 30 degrees, factors over 1.9, fewer than 4 bits but at least 1; solarize inverts all from 10 on. (torchvision
    reads 30 as the end of each range.) The image has whole levels. On one channel, colour is the identity.
    """
    if not layers:
        return image
    places = jnp.array([PLACES[name] for name in RANDAUGMENT])
    values = jnp.array([value_at(name, magnitude / _MAGNITUDES) for name in RANDAUGMENT], jnp.float32)

    def layer(image: jax.Array, drawn: jax.Array) -> tuple[jax.Array, None]:
        one = _one_of(len(RANDAUGMENT), drawn[0])
        return apply(image, places[one], _signed(drawn[1], places[one], values[one]), RANDAUGMENT), None

    return jax.lax.scan(layer, image, jax.random.uniform(key, (layers * 2,)).reshape(layers, 2))[0]
