"""Losses of adversarial training: what a critic says of examples, and the critic itself.

A score is a logit of being real, any number. Each generator's loss is less the more real its examples look.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array

from research.inputs import (
    AnyArray,
    Critic,
    FakeExamples,
    FakeScores,
    Key,
    Mask,
    Penalty,
    PerExample,
    RealExamples,
    RealScores,
    Signed,
)
from research.losses._arrays import root
from research.losses._reduction import masked_mean


def non_saturating_generator(fake: FakeScores) -> PerExample:
    """-log sigmoid(fake), in nats. Goodfellow et al. 2014 (arXiv 1406.2661, section 3)."""
    return jax.nn.softplus(-_float32(fake))


def non_saturating_discriminator(real: RealScores, fake: FakeScores) -> PerExample:
    """-log sigmoid(real) - log(1 - sigmoid(fake)), in nats. Goodfellow et al. 2014 (arXiv 1406.2661, eq. 1)."""
    return jax.nn.softplus(-_float32(real)) + jax.nn.softplus(_float32(fake))


def hinge_generator(fake: FakeScores) -> Signed:
    """-fake, any number. Lim & Ye 2017 (arXiv 1705.02894); Miyato et al. 2018 (arXiv 1802.05957, eq. 17)."""
    return -_float32(fake)


def hinge_discriminator(real: RealScores, fake: FakeScores) -> PerExample:
    """max(0, 1 - real) + max(0, 1 + fake). Miyato et al. 2018 (arXiv 1802.05957, eq. 16)."""
    return jax.nn.relu(1.0 - _float32(real)) + jax.nn.relu(1.0 + _float32(fake))


def least_squares_generator(fake: FakeScores) -> PerExample:
    """(fake - 1)^2 / 2. Mao et al. 2017 (arXiv 1611.04076, eq. 9)."""
    return 0.5 * (_float32(fake) - 1.0) ** 2


def least_squares_discriminator(real: RealScores, fake: FakeScores) -> PerExample:
    """(real - 1)^2 / 2 + fake^2 / 2. Mao et al. 2017 (arXiv 1611.04076, eq. 9)."""
    return 0.5 * (_float32(real) - 1.0) ** 2 + 0.5 * _float32(fake) ** 2


def wasserstein_generator(fake: FakeScores) -> Signed:
    """-fake, any number. Arjovsky et al. 2017 (arXiv 1701.07875, algorithm 1)."""
    return -_float32(fake)


def wasserstein_critic(real: RealScores, fake: FakeScores) -> Signed:
    """fake - real, any number. Arjovsky et al. 2017 (arXiv 1701.07875, algorithm 1); with `gradient_penalty`."""
    return _float32(fake) - _float32(real)


def gradient_penalty(
    critic: Critic, real: RealExamples, fake: FakeExamples, key: Key, *, mask: Mask | None = None
) -> Penalty:
    """Mean of (||gradient of the critic|| - 1)^2 at points between real and fake examples, drawn uniformly by `key`.

    Shapes: critic "b ..." -> "b"; real and fake "b ...". Gulrajani et al. 2017 (arXiv 1704.00028, eq. 3); weigh it
    (their lambda is 10). A gradient of 0 costs 1, and has no direction to go.
    """
    chex.assert_equal_shape([real, fake])
    real, fake = _float32(real), _float32(fake)
    share = jax.random.uniform(key, (len(real), *(1,) * (real.ndim - 1)))
    square = _squared_gradient(critic, share * real + (1.0 - share) * fake)
    length = root(square)
    return masked_mean((length - 1.0) ** 2, _mask(mask, real))


def r1(critic: Critic, real: RealExamples, *, mask: Mask | None = None) -> Penalty:
    """Half the mean of ||gradient of the critic||^2 at real examples. Shapes: critic "b ..." -> "b"; real "b ...".

    Mescheder et al. 2018 (arXiv 1801.04406, eq. 9); weigh it by their gamma.
    """
    real = _float32(real)
    return 0.5 * masked_mean(_squared_gradient(critic, real), _mask(mask, real))


def _float32(values: AnyArray) -> Array:
    return jnp.asarray(values, jnp.float32)


def _mask(mask: AnyArray | None, examples: Array) -> Array:
    return jnp.ones(len(examples), jnp.float32) if mask is None else jnp.asarray(mask, jnp.float32)


def _squared_gradient(critic: Callable[[Array], Array], examples: Array) -> Array:
    """Each example's own: what a critic says of one may depend on no other (no batch norm)."""
    gradient = jax.grad(lambda x: jnp.sum(critic(x).astype(jnp.float32)))(examples)
    return jnp.sum(gradient**2, axis=tuple(range(1, gradient.ndim)))
