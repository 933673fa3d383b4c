"""Which box stands for which object: by how far they overlap, or one to one at the least total cost."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Integer

from research.boxes.formats import AnyArray, as_float


class Matches(NamedTuple):
    """For each of n boxes: the object it stands for, and whether it does. `objects` is 0 where it stands for none."""

    objects: Integer[Array, "*b n"]
    positive: Bool[Array, "*b n"]
    ignored: Bool[Array, "*b n"]  # neither positive nor negative: between the thresholds


def match_by_threshold(
    overlap: Float[AnyArray, "*b n m"],
    valid: Bool[AnyArray, "*b m"] | None = None,
    *,
    positive: float = 0.7,
    negative: float = 0.3,
    each_object: bool = True,
) -> Matches:
    """Each box stands for the object it overlaps most, if by at least `positive`; below `negative` for none.

    Shapes: overlap "... n m" of n boxes and m objects (`pairwise_iou`), valid "... m" false for objects that are
    padding. With `each_object` the box that overlaps an object most stands for it however little that is, more than 0;
    equal ones too (Ren et al. 2015, arXiv 1506.01497, section 3.1.2); where two objects share a best box, it stands
    for the one it overlaps more. Equal overlaps: the object of the lowest index.
    """
    overlap = as_float(overlap)
    if not overlap.shape[-1]:
        nothing = jnp.zeros(overlap.shape[:-1], bool)
        return Matches(jnp.zeros(overlap.shape[:-1], jnp.int32), nothing, nothing)
    real = overlap if valid is None else jnp.where(valid[..., None, :], overlap, -1.0)
    real = jnp.where(jnp.isnan(real), -1.0, real)
    best = jnp.max(real, axis=-1)
    index = jnp.argmax(real, axis=-1).astype(jnp.int32)
    chosen = best >= positive
    if each_object:
        most = jnp.max(real, axis=-2, keepdims=True)
        forced = jnp.where((real == most) & (most > 0), real, -1.0)
        of_object = jnp.max(forced, axis=-1) > 0
        index = jnp.where(of_object, jnp.argmax(forced, axis=-1).astype(jnp.int32), index)
        chosen |= of_object
    return Matches(jnp.where(chosen, index, 0), chosen, ~chosen & (best >= negative))


def match_by_assignment(cost: Float[AnyArray, "n m"], valid: Bool[AnyArray, "m"] | None = None) -> Matches:
    """One box for each object at the least total cost (Kuhn 1955, by optax): as many pairs as there can be.

    Shapes: cost "n m" of n boxes and m objects, valid "m" false for objects that are padding. A pair whose cost is not
    finite is never made unless nothing else is left, and then it is not positive. vmap it for batches.
    """
    cost = as_float(cost)
    n, m = cost.shape
    nothing = jnp.zeros(n, bool)
    if not n or not m:
        return Matches(jnp.zeros(n, jnp.int32), nothing, nothing)
    allowed = jnp.isfinite(cost) & (True if valid is None else valid[None, :])
    finite = jnp.where(allowed, cost, 0.0)
    # Dearer than any choice of allowed pairs, so that as many as can be are made.
    low, high = jnp.min(finite), jnp.max(finite)
    rows, columns = optax.assignment.hungarian_algorithm(
        jnp.where(allowed, finite, high + (high - low + 1.0) * min(n, m))
    )
    made = allowed[rows, columns]
    index = jnp.zeros(n, jnp.int32).at[rows].set(jnp.where(made, columns, 0).astype(jnp.int32))
    return Matches(index, nothing.at[rows].set(made), nothing)
