"""Losses of classification with localization: what is in a picture, or in each cell of it, and where.

A target is [pc, bx, by, bh, bw, c1 .. cn]: whether there is an object, its centre, height and width, and its class as a
one-hot row (or probabilities). Where there is none, what follows pc counts for nothing and may be anything.
"""

import jax
import jax.numpy as jnp
import optax

from research.inputs import (
    AnyArray,
    Number,
    ObjectGrid,
    ObjectGridScores,
    Objects,
    ObjectScores,
    PerExample,
)
from research.losses._arrays import pair


def localization_loss(
    predictions: ObjectScores,
    targets: Objects,
    *,
    lambda_coord: Number = 1.0,
    lambda_obj: Number = 1.0,
    lambda_cls: Number = 1.0,
) -> PerExample:
    """lambda_coord x squared box error + lambda_obj x (pc error)^2 + lambda_cls x cross-entropy of softmax(c), in nats.

    Box and classes count only as far as the target's pc says that there is an object. Shapes: both "b 5+n"; pc and box
    of the prediction are the numbers themselves, c are logits. Sums over the four numbers of a box.
    """
    confidence, box, classes = _parts(predictions, targets)
    error = optax.losses.squared_error(predictions[..., 0].astype(jnp.float32), confidence)
    return lambda_obj * error + confidence * (lambda_coord * box + lambda_cls * classes)


def cell_loss(
    predictions: ObjectGridScores,
    targets: ObjectGrid,
    *,
    lambda_coord: Number = 1.0,
    lambda_obj: Number = 1.0,
    lambda_cls: Number = 1.0,
) -> PerExample:
    """Over the cells of a grid, the sum of binary cross-entropy of sigmoid(pc) and, where an object is, box and class.

    That is lambda_obj x cross-entropy + pc x (lambda_coord x squared box error + lambda_cls x cross-entropy of
    softmax(c)), in nats. Shapes: both "b rows columns 5+n". After Redmon et al. 2016 (arXiv 1506.02640, eq. 3), with
    cross-entropies for their squared errors and centre, height and width as they are.
    """
    confidence, box, classes = _parts(predictions, targets)
    error = optax.losses.sigmoid_binary_cross_entropy(predictions[..., 0].astype(jnp.float32), confidence)
    cells = lambda_obj * error + confidence * (lambda_coord * box + lambda_cls * classes)
    return jnp.sum(cells, axis=(-2, -1))


def _parts(predictions: AnyArray, targets: AnyArray) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The target's pc, squared error of the box and cross-entropy of the classes, both 0 where there is no pc."""
    predictions, targets = pair(predictions, targets)
    confidence = targets[..., 0]
    # What a target without an object says of a box is of no account, though it be nan.
    known = jnp.where((confidence > 0)[..., None], targets, 0.0)
    present = jnp.where((confidence > 0)[..., None], predictions, 0.0)
    box = jnp.sum(optax.losses.squared_error(present[..., 1:5], known[..., 1:5]), axis=-1)
    return confidence, box, optax.losses.softmax_cross_entropy(present[..., 5:], known[..., 5:])
