"""What metrics accumulate: named tuples, merged over batches, devices and hosts by adding field to field.

Counts are whole numbers (int32), so they are exact however the examples are split, padded or ordered. What no sum can
hold says by a method `merged` how two become one: rows that are ranked all together, and moments.
"""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from research.inputs import AnyArray, Mask, PerExample
from research.losses import masked_sum

Accumulator = TypeVar("Accumulator")
Rows = TypeVar("Rows", bound=tuple[Any, ...])


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


class Calibration(NamedTuple):
    """Per bin of confidence: how many examples, how many of them right, and the sum of their confidences."""

    examples: Integer[AnyArray, "bins"]
    correct: Integer[AnyArray, "bins"]
    confidence: Float[AnyArray, "bins"]


class Ranked(NamedTuple):
    """Scores of examples, and for which of them the answer is yes. A row whose mask is not set is padding."""

    scores: Float[AnyArray, "n *k"]
    positive: Bool[AnyArray, "n *k"]
    mask: Bool[AnyArray, "n"]

    def merged(self, other: "Ranked") -> "Ranked":
        """The rows of both."""
        return _rows_of_both(self, other)


class Entropies(NamedTuple):
    """Of rows of class probabilities: their sum, the sum of their entropies (nats), and how many there are."""

    probabilities: Float[AnyArray, "k"]
    entropy: Float[AnyArray, ""]
    examples: Integer[AnyArray, ""]


class Moments(NamedTuple):
    """Of rows of numbers: how many, their mean, and the sum of the products of their differences from it."""

    examples: Integer[AnyArray, ""]
    mean: Float[AnyArray, "d"]
    scatter: Float[AnyArray, "d d"]

    def merged(self, other: "Moments") -> "Moments":
        """The moments of both sets of rows (Chan et al. 1979): sums of squares would cancel where means are large."""
        namespace = self.mean.__array_namespace__()
        count = self.examples + other.examples
        share = (other.examples / namespace.maximum(count, 1)).astype(self.mean.dtype)
        apart = other.mean - self.mean
        between = (self.examples.astype(self.mean.dtype) * share) * namespace.outer(apart, apart)
        return Moments(count, self.mean + share * apart, self.scatter + other.scatter + between)


class Panoptic(NamedTuple):
    """Per class: segments found, segments that are none, segments missed, and the sum of the IoU of those found."""

    true_positive: Integer[AnyArray, "k"]
    false_positive: Integer[AnyArray, "k"]
    false_negative: Integer[AnyArray, "k"]
    overlap: Float[AnyArray, "k"]


class Found(NamedTuple):
    """Scored boxes, and which found an object or count neither way, at overlaps t and for objects of areas a."""

    scores: Float[AnyArray, "*n"]
    classes: Integer[AnyArray, "*n"]
    matched: Bool[AnyArray, "*n t a"]
    ignored: Bool[AnyArray, "*n t a"]
    mask: Bool[AnyArray, "*n"]

    def merged(self, other: "Found") -> "Found":
        """The boxes of both."""
        return _rows_of_both(self, other)


class Detections(NamedTuple):
    """Boxes, and how many objects of each class there were to be found in each range of areas."""

    found: Found
    objects: Integer[AnyArray, "k a"]


class Edits(NamedTuple):
    """What it takes to turn texts into their targets, and how many symbols (characters or words) the targets have."""

    errors: Integer[AnyArray, ""]
    symbols: Integer[AnyArray, ""]


class NgramMatches(NamedTuple):
    """Of pieces of one word, two words and so on: how many are in the target, of how many; and words of both texts."""

    matches: Integer[AnyArray, "n"]
    totals: Integer[AnyArray, "n"]
    length: Integer[AnyArray, ""]
    target_length: Integer[AnyArray, ""]


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

    def knows_how(node: Any) -> bool:
        return hasattr(node, "merged")

    return jax.tree.map(lambda a, b: a.merged(b) if knows_how(a) else a + b, one, other, is_leaf=knows_how)


def _rows_of_both(one: Rows, other: Rows) -> Rows:
    """Two named tuples of arrays that have a row for each example, one after the other."""
    namespace = one[0].__array_namespace__()
    return type(one)(*(namespace.concatenate(pair) for pair in zip(one, other, strict=True)))
