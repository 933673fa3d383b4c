"""Grad-CAM: where in an image a network finds what speaks for a class.

Ramprasaath Selvaraju, Michael Cogswell, Abhishek Das, Ramakrishna Vedantam, Devi Parikh, Dhruv Batra: "Grad-CAM: Visual
Explanations from Deep Networks via Gradient-based Localization", 2016, arXiv:1610.02391, equations 1 and 2.
"""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from research import models
from research.analysis import features
from research.errors import UserError, unknown

PyTree = Any
# Anchors of the overlay's colours, dark to bright, evenly spaced (red, green, blue).
COLOURS = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)


def last_stage(known: dict[str, tuple[int, ...]]) -> str:
    """The layer that is looked at by default: the last `stageN`, or the last maps there are. Raises `UserError`."""
    candidates = models.stages(known) or list(known)
    if not candidates:
        raise UserError("this network has no maps to look at; expected one with convolutions")
    return candidates[-1]


def grad_cam(
    model: nn.Module,
    variables: PyTree,
    images: Float[Array, "b *space c"],
    classes: Int[Array, " b"] | None = None,
    *,
    layer: str | None = None,
) -> Float[Array, "b *maps"]:
    """The maps of `layer` weighted by what they add to the logit of each image's class, negative sums as 0.

    `classes` default to those with the largest logits, `layer` to the last stage. Not scaled: `normalised` does it.
    Raises `UserError`: an unknown layer (nearest shown), or one whose output is no maps.
    """
    known = features.layers(model, variables, images)
    layer = last_stage(known) if layer is None else layer
    if layer not in known:
        raise unknown("layer with maps", layer, known)
    if classes is None:
        classes = jnp.argmax(cast(Array, model.apply(variables, images, train=False)), axis=-1)

    def scores(offset: Array) -> tuple[Array, Array]:
        seen: list[Array] = []

        def shifted(maps: Array) -> Array:
            seen.append(maps.astype(jnp.float32))
            return maps + offset.astype(maps.dtype)

        logits = features.changed(model, variables, images, layer, shifted)
        return jnp.sum(jnp.take_along_axis(logits, classes[:, None], axis=1)), seen[0]

    offset = jnp.zeros(known[layer], jnp.float32)
    gradient, maps = jax.grad(scores, has_aux=True)(offset)
    weights = jnp.mean(gradient, axis=range(1, gradient.ndim - 1), keepdims=True)  # equation 1
    return nn.relu(jnp.sum(weights * maps, axis=-1))  # equation 2


def normalised(heat: Float[Array, "b *maps"]) -> Float[Array, "b *maps"]:
    """Each example's map divided by its largest value; a map of zeros stays one."""
    largest = jnp.max(heat, axis=range(1, heat.ndim), keepdims=True)
    return heat / jnp.where(largest > 0, largest, 1)


def overlay(
    image: UInt8[np.ndarray, "h w c"],
    heat: Float[np.ndarray, "h2 w2"],
    resize: Callable[[np.ndarray, int, int], np.ndarray],
    strength: float = 0.6,
) -> UInt8[np.ndarray, "h w 3"]:
    """An image of 1 or 3 channels with a map of 0 to 1 over it, bright where the map is large.

    `resize` (uint8 "h w c", height, width) enlarges the map.
    """
    grey = np.asarray(np.round(heat * 255), np.uint8)[..., None]
    share = resize(grey, *image.shape[:2])[..., 0].astype(np.float32) / 255
    place = share * (len(COLOURS) - 1)
    below = np.minimum(place.astype(int), len(COLOURS) - 2)
    colour = COLOURS[below] + (place - below)[..., None] * (COLOURS[below + 1] - COLOURS[below])
    under = np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.float32)
    return np.asarray(np.round((1 - strength) * under + strength * colour), np.uint8)
