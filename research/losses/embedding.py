"""Losses of embeddings: vectors "b d" that are to be near where examples are of one kind, float32 inside."""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from research.errors import unknown
from research.inputs import (
    AnyArray,
    ClassLabels,
    Cosines,
    Embeddings,
    Identities,
    Mask,
    Number,
    OfBatch,
    PerExample,
    YesOrNo,
)
from research.losses._arrays import pair, root, unit
from research.losses.classification import softmax_cross_entropy

Distance = Literal["euclidean", "squared", "cosine"]
DISTANCES = ("euclidean", "squared", "cosine")


def triplet(
    anchor: Embeddings,
    positive: Embeddings,
    negative: Embeddings,
    *,
    margin: Number = 0.2,
    distance: Distance = "euclidean",
) -> PerExample:
    """max(d(anchor, positive) - d(anchor, negative) + margin, 0). Shapes: "b d" each.

    `distance`: "euclidean" (Hermans et al. 2017, arXiv 1703.07737), "squared" (Schroff et al. 2015, arXiv 1503.03832,
    eq. 2) or "cosine", 1 - cosine. Raises `UserError`: no such distance.
    """
    chex.assert_equal_shape([anchor, positive, negative])
    return jax.nn.relu(_distance(anchor, positive, distance) - _distance(anchor, negative, distance) + margin)


def mined_triplet(
    embeddings: Embeddings,
    labels: Identities,
    *,
    margin: Number = 0.2,
    distance: Distance = "euclidean",
    mining: Literal["all", "hard", "semi_hard"] = "semi_hard",
    mask: Mask | None = None,
) -> OfBatch:
    """The mean `triplet` loss over triplets found in the batch; 0 where there is none. Shapes: "b d", "b" -> one value.

    `mining`: "all", every anchor with each of its kind and each of another (Hermans et al. 2017, arXiv 1703.07737, eq.
    6); "hard", each anchor with the farthest of its kind and the nearest of another (eq. 5); "semi_hard", each anchor
    and one of its kind with the nearest of another kind that is farther than that, or the farthest there is (Schroff
    et al. 2015, arXiv 1503.03832, section 3.2). Examples whose mask is 0 are in none. Raises `UserError`: no such
    distance or mining.
    """
    if mining not in ("all", "hard", "semi_hard"):
        raise unknown("mining of mined_triplet", mining, ("all", "hard", "semi_hard"))
    chex.assert_equal_shape_prefix([embeddings, labels], 1)
    real = jnp.ones(len(labels), bool) if mask is None else jnp.asarray(mask > 0)
    embeddings = jnp.where(real[:, None], jnp.asarray(embeddings, jnp.float32), 0.0)
    apart = _distance(embeddings[:, None, :], embeddings[None, :, :], distance)
    both = real[:, None] & real[None, :]
    same = labels[:, None] == labels[None, :]
    positive = both & same & ~jnp.eye(len(labels), dtype=bool)
    negative = both & ~same
    if mining == "hard":
        far = jnp.max(jnp.where(positive, apart, -jnp.inf), axis=1)
        near = jnp.min(jnp.where(negative, apart, jnp.inf), axis=1)
        return _mean_loss(far, near, positive.any(axis=1) & negative.any(axis=1), margin)
    if mining == "all":
        triplets = positive[:, :, None] & negative[:, None, :]
        return _mean_loss(apart[:, :, None], apart[:, None, :], triplets, margin)
    outside = negative[:, None, :] & (apart[:, None, :] > apart[:, :, None])
    near = jnp.min(jnp.where(outside, apart[:, None, :], jnp.inf), axis=2)
    farthest = jnp.max(jnp.where(negative, apart, -jnp.inf), axis=1)[:, None]
    chosen = jnp.where(outside.any(axis=2), near, farthest)
    return _mean_loss(apart, chosen, positive & negative.any(axis=1)[:, None], margin)


def contrastive(first: Embeddings, second: Embeddings, same: YesOrNo, *, margin: Number = 1.0) -> PerExample:
    """d^2 / 2 of two of one kind, max(0, margin - d)^2 / 2 of two that are not, d euclidean. Shapes: "b d", "b d", "b".

    Hadsell et al. 2006 (doi 10.1109/CVPR.2006.100, eq. 4), whose Y is 1 for two that are not of one kind.
    """
    chex.assert_equal_shape([first, second])
    alike = jnp.asarray(same, jnp.float32)
    near = _distance(first, second, "squared")
    away = jax.nn.relu(margin - _distance(first, second, "euclidean"))
    return 0.5 * (alike * near + (1.0 - alike) * away**2)


def arcface(cosines: Cosines, labels: ClassLabels, *, margin: Number = 0.5, scale: Number = 64.0) -> PerExample:
    """Softmax cross-entropy of scale x cos(angle), the true class's angle made `margin` radians larger.

    Shapes: "b k", "b". `cosines` are products of normalised embeddings and normalised class vectors. Deng et al. 2019
    (arXiv 1801.07698, eq. 3); where the angle and the margin pass pi, cos - margin x sin(margin), as in their code, so
    that it goes on falling. Labels that are probabilities give each class its share of the margin's effect.
    """
    cosines = jnp.clip(jnp.asarray(cosines, jnp.float32), -1.0, 1.0)
    margin = jnp.asarray(margin, jnp.float32)
    # The sine of an angle of 0 has no finite gradient by its cosine.
    square = 1.0 - cosines**2
    sine = root(square)
    moved = cosines * jnp.cos(margin) - sine * jnp.sin(margin)
    beyond = cosines <= -jnp.cos(margin)  # cos(pi - margin)
    own = jnp.where(beyond, cosines - margin * jnp.sin(margin), moved)
    return softmax_cross_entropy(scale * _own(own, cosines, labels), labels)


def cosface(cosines: Cosines, labels: ClassLabels, *, margin: Number = 0.35, scale: Number = 64.0) -> PerExample:
    """Softmax cross-entropy of scale x cosine, the true class's cosine less `margin`.

    Shapes as in `arcface`. Wang et al. 2018 (arXiv 1801.09414, eq. 4).
    """
    cosines = jnp.clip(jnp.asarray(cosines, jnp.float32), -1.0, 1.0)
    return softmax_cross_entropy(scale * _own(cosines - margin, cosines, labels), labels)


def siamese_logistic(
    first: Embeddings,
    second: Embeddings,
    same: YesOrNo,
    *,
    weight: Float[AnyArray, "d"],
    bias: Number = 0.0,
    form: Literal["absolute", "chi_square"] = "absolute",
) -> PerExample:
    """Cross-entropy in nats of sigmoid(weight . difference + bias), the chance of being the same.

    Shapes: "b d", "b d", "b". The difference of each component is |f - g| or, with form "chi_square", (f - g)^2 / (f +
    g), for features that are not negative (|f| + |g| of others), 0 where both are 0: Taigman et al. 2014 (doi
    10.1109/CVPR.2014.220, sections 4.1, 4.2). Raises `UserError`: no such form.
    """
    if form not in ("absolute", "chi_square"):
        raise unknown("form of siamese_logistic", form, ("absolute", "chi_square"))
    one, other = pair(first, second)
    difference = jnp.abs(one - other)
    if form == "chi_square":
        total = jnp.abs(one) + jnp.abs(other)
        difference = jnp.where(total > 0, difference**2 / jnp.where(total > 0, total, 1.0), 0.0)
    score = jnp.einsum("bd,d->b", difference, jnp.asarray(weight, jnp.float32)) + bias
    return jax.nn.softplus(score) - jnp.asarray(same, jnp.float32) * score


def _own(own: Array, others: Array, labels: ClassLabels) -> Array:
    """What is `own` for an example's class and `others` for the rest."""
    if labels.ndim == 1:
        mine = (labels[:, None] == jnp.arange(others.shape[-1], dtype=labels.dtype)[None, :]).astype(jnp.float32)
    else:
        mine = jnp.asarray(labels, jnp.float32)
    return mine * own + (1.0 - mine) * others


def _distance(one: AnyArray, other: AnyArray, kind: str) -> Array:
    """Distance along the last axis, with gradient 0 where it is 0."""
    one, other = jnp.asarray(one, jnp.float32), jnp.asarray(other, jnp.float32)
    if kind == "cosine":
        return 1.0 - jnp.sum(unit(one) * unit(other), axis=-1)
    square = jnp.sum((one - other) ** 2, axis=-1)
    if kind == "squared":
        return square
    if kind == "euclidean":
        return root(square)
    raise unknown("distance", kind, DISTANCES)


def _mean_loss(near: Array, far: Array, chosen: Bool[Array, "..."], margin: Number) -> OfBatch:
    """The mean of max(near - far + margin, 0) over what is chosen; what is not may be infinite."""
    lost = jax.nn.relu(jnp.where(chosen, near, 0.0) - jnp.where(chosen, far, 0.0) + margin)
    return jnp.sum(jnp.where(chosen, lost, 0.0)) / jnp.maximum(jnp.sum(chosen.astype(jnp.float32)), 1.0)
