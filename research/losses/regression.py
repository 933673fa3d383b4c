"""Losses of regression: per example, summed over what an example predicts, float32 inside, predictions first.

The sum, as a vector is predicted as a whole: squared error is then its squared distance. For the mean over pixels see
`reconstruction`.
"""

import jax
import jax.numpy as jnp
import optax

from research.inputs import Number, PerExample, Values
from research.losses._arrays import pair


def squared_error(predictions: Values, targets: Values) -> PerExample:
    """Squared euclidean distance, sum of (prediction - target)^2 over all but the batch. Shapes: both "b ..."."""
    return _summed(optax.losses.squared_error(*pair(predictions, targets)))


def absolute_error(predictions: Values, targets: Values) -> PerExample:
    """Sum of |prediction - target| over all but the batch. Shapes: both "b ..."."""
    predictions, targets = pair(predictions, targets)
    return _summed(jnp.abs(predictions - targets))


def huber(predictions: Values, targets: Values, *, delta: Number = 1.0) -> PerExample:
    """Sum over all but the batch of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2). Shapes: both "b ...".

    Huber 1964 (doi 10.1214/aoms/1177703732). With delta 1 it is the smooth L1 of Girshick 2015 (arXiv 1504.08083, eq.
    3).
    """
    return _summed(optax.losses.huber_loss(*pair(predictions, targets), delta=delta))


def _summed(values: jax.Array) -> jax.Array:
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))
