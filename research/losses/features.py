"""Losses between what a network's layers give for two pictures: perceptual distance, content and style. float32 inside.

Features are maps "b h w c" by the name of their layer, of any network; both pictures' of
the same layers.
"""

from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float

from research.errors import UserError, unknown
from research.inputs import AnyArray, Features, Number, PerExample
from research.losses._arrays import unit
from research.losses._gram import gram_matrix

PLACES = (1, 2, 3)


def perceptual(
    predictions: Features, targets: Features, *, layer_weights: Mapping[str, Number] | None = None
) -> PerExample:
    """Sum over layers of weight x mean squared difference.

    Shapes: maps "b h w c" by layer; weights by layer, 1 without. Johnson et al. 2016 (arXiv 1603.08155, eq. 2). Raises
    `UserError`: other layers in one than in the other, or none.
    """
    return _summed(predictions, targets, layer_weights, lambda f, g: jnp.mean((f - g) ** 2, axis=PLACES))


def lpips(
    predictions: Features, targets: Features, *, channel_weights: Mapping[str, Float[AnyArray, "_"]]
) -> PerExample:
    """Sum over layers of the mean over places of weighted squared differences of channels, these made of length 1.

    Zhang et al. 2018 (arXiv 1801.03924, eq. 1): `channel_weights` are the learned w, one not negative number for each
    channel of each layer. Shapes as in `perceptual`. Raises `UserError` as there.
    """
    _check(predictions, targets)
    _check_names(channel_weights, predictions)
    total = jnp.zeros(len(next(iter(predictions.values()))), jnp.float32)
    for name, maps in predictions.items():
        apart = (unit(maps) - unit(targets[name])) ** 2
        weighted = jnp.einsum("bhwc,c->bhw", apart, jnp.asarray(channel_weights[name], jnp.float32))
        total += jnp.mean(weighted, axis=(1, 2))
    return total


def content(predictions: Features, targets: Features) -> PerExample:
    """Half the sum of squared differences, over layers too. Shapes as in `perceptual`.

    Gatys et al. 2015 (arXiv 1508.06576, eq. 1). Raises `UserError`: other layers in one than in the other, or none.
    """
    return _summed(predictions, targets, None, lambda f, g: 0.5 * jnp.sum((f - g) ** 2, axis=PLACES))


def style(predictions: Features, targets: Features, *, layer_weights: Mapping[str, Number] | None = None) -> PerExample:
    """Sum over layers of lambda / (4 n^2 m^2) ||Gram - Gram'||_F^2, n channels and m places. Shapes as in `perceptual`.

    Gatys et al. 2015 (arXiv 1508.06576, eq. 4 and 5); the weights lambda are 1 without. The two pictures need not be
    of one size: each Gram matrix is then divided by its own number of places. Raises `UserError` as in `perceptual`.
    """

    def of_layer(f: jax.Array, g: jax.Array) -> jax.Array:
        mine, theirs = (gram_matrix(maps) / (maps.shape[1] * maps.shape[2]) for maps in (f, g))
        return jnp.sum((mine - theirs) ** 2, axis=(1, 2)) / (4.0 * f.shape[-1] ** 2)

    return _summed(predictions, targets, layer_weights, of_layer, one_size=False)


def _summed(
    predictions: Features,
    targets: Features,
    layer_weights: Mapping[str, Number] | None,
    of_layer: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    one_size: bool = True,
) -> jax.Array:
    _check(predictions, targets)
    if layer_weights is not None:
        _check_names(layer_weights, predictions)
    total = jnp.zeros(len(next(iter(predictions.values()))), jnp.float32)
    for name, maps in predictions.items():
        if one_size:
            chex.assert_equal_shape([maps, targets[name]])
        values = of_layer(jnp.asarray(maps, jnp.float32), jnp.asarray(targets[name], jnp.float32))
        total += values if layer_weights is None else layer_weights[name] * values
    return total


def _check(predictions: Features, targets: Features) -> None:
    if not predictions:
        raise UserError("there are no layers to compare; expected maps by the name of their layer")
    _check_names(targets, predictions)


def _check_names(given: Mapping[str, object], layers: Features) -> None:
    for name in (*given, *layers):
        if name not in layers:
            raise unknown("layer", name, layers)
        if name not in given:
            raise UserError(f"layer {name!r} has no counterpart; expected one for each of: {', '.join(layers)}")
