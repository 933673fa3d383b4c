"""Metrics of a set of pictures as a whole, by what a network says of each: how near to another set, how varied."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.inputs import AnyArray, Embeddings, Mask, Probabilities
from research.metrics._accumulators import Entropies, Moments


def moments(features: Embeddings, mask: Mask) -> Moments:
    """Mean and scatter of features "b d": what `frechet_distance` compares."""
    real = mask > 0
    rows = jnp.where(real[:, None], jnp.asarray(features, jnp.float32), 0.0)
    count = jnp.sum(real, dtype=jnp.int32)
    mean = jnp.sum(rows, axis=0) / jnp.maximum(count, 1).astype(jnp.float32)
    away = jnp.where(real[:, None], rows - mean[None], 0.0)
    return Moments(count, mean, jnp.matmul(away.T, away, precision=jax.lax.Precision.HIGHEST))


def frechet_distance(one: Moments, other: Moments) -> float:
    """|m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)): the squared distance of two Gaussians. On the host, in float64.

    With features of Inception v3 (2,048 numbers after its last pooling) the FID of Heusel et al. 2017 (arXiv
    1706.08500, eq. 6; covariances by n - 1, as in their code). nan where either set has fewer than two examples.
    """
    if min(int(one.examples), int(other.examples)) < 2:
        return float("nan")
    means = [np.asarray(seen.mean, np.float64) for seen in (one, other)]
    first, second = (np.asarray(seen.scatter, np.float64) / (int(seen.examples) - 1) for seen in (one, other))
    # C1 C2 is no symmetric matrix, but has the eigenvalues of R C2 R where R R = C1, which is.
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ second @ root)
    both = np.sqrt(np.maximum(shared, 0.0)).sum()
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * both)


def class_entropies(probabilities: Probabilities, mask: Mask) -> Entropies:
    """Sums of class probabilities "b k" and of their entropies in nats: what `inception_score` is made of."""
    real = mask > 0
    rows = jnp.where(real[:, None], jnp.asarray(probabilities, jnp.float32), 0.0)
    return Entropies(
        jnp.sum(rows, axis=0), jnp.sum(jnp.where(real, _entropy(rows), 0.0)), jnp.sum(real, dtype=jnp.int32)
    )


def inception_score(seen: Entropies) -> Any:
    """exp(mean over examples of KL(p(y|x) || p(y))), from 1 to the number of classes; 1 over no examples.

    Salimans et al. 2016 (arXiv 1606.03498, section 4); over all examples at once, where they average ten splits.
    """
    count = jnp.maximum(seen.examples, 1).astype(jnp.float32)
    return jnp.exp(_entropy(seen.probabilities / count) - seen.entropy / count)


def _entropy(probabilities: AnyArray) -> jax.Array:
    return -jnp.sum(jax.scipy.special.xlogy(probabilities, probabilities), axis=-1)
