"""What metrics accumulate: named tuples of sums, merged by adding field to field, over batches, devices and hosts.

Counts are whole numbers (int32), so they are exact however the examples are split, padded or ordered.
"""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from research.losses import AnyArray, Mask, PerExample, masked_sum

Accumulator = TypeVar("Accumulator")


class Mean(NamedTuple):
    """A mean in the making: the sum of one value per example, and how many examples."""

    total: Float[AnyArray, ""] | Integer[AnyArray, ""]
    examples: Integer[AnyArray, ""]


class Confusion(NamedTuple):
    """How often class `row` was predicted as class `column`."""

    matrix: Integer[AnyArray, "k k"]


class Decisions(NamedTuple):
    """Per class, the outcomes of "is the example of this class?"; true negatives enter no value here."""

    true_positive: Integer[AnyArray, "k"]
    false_positive: Integer[AnyArray, "k"]
    false_negative: Integer[AnyArray, "k"]


def mean(values: PerExample, mask: Mask) -> Mean:
    """Accumulate the mean of float values "b" over the examples whose mask is 1."""
    return Mean(masked_sum(values, mask), jnp.sum(mask > 0, dtype=jnp.int32))


def share(condition: Bool[AnyArray, "b"], mask: Mask) -> Mean:
    """Accumulate the share of examples whose mask is 1 for which `condition` holds; an exact count."""
    real = mask > 0
    return Mean(jnp.sum(condition & real, dtype=jnp.int32), jnp.sum(real, dtype=jnp.int32))


def average(accumulated: Mean) -> Any:
    """The value of a mean: total / examples, 0 over no examples. A scalar of the accumulator's own kind."""
    namespace = accumulated.examples.__array_namespace__()
    floating = namespace.result_type(float)  # float64 in NumPy, float32 in JAX
    return accumulated.total.astype(floating) / namespace.maximum(accumulated.examples, 1).astype(floating)


def merge(one: Accumulator, other: Accumulator) -> Accumulator:
    """The accumulator of both sets of examples together; two of one kind and shape, or equal trees of them."""
    return jax.tree.map(lambda a, b: a + b, one, other)
