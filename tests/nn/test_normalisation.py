"""Local response normalisation against the printed formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from research.nn.normalisation import local_response_norm


def printed(x, size, alpha, beta, bias):
    """Krizhevsky et al. 2012, section 3.3, channel by channel; the last axis is that of channels."""
    result = np.empty_like(x, np.float64)
    for i in range(x.shape[-1]):
        first, last = max(0, i - size // 2), min(x.shape[-1] - 1, i + size // 2)
        total = sum(np.square(np.float64(x[..., j])) for j in range(first, last + 1))
        result[..., i] = x[..., i] / (bias + alpha * total) ** beta
    return result


@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 7), (2, 3, 2, 7), (1, 2, 2, 2, 7), (2, 3)])
@pytest.mark.parametrize("constants", [(5, 1e-4, 0.75, 2.0), (3, 0.5, 0.5, 1.0), (1, 1.0, 1.0, 1.0)])
def test_it_is_the_printed_formula_at_any_rank(shape, constants):
    x = 10 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    # A power of a sum of float32 squares.
    np.testing.assert_allclose(local_response_norm(jnp.asarray(x), *constants), printed(x, *constants), rtol=1e-5)


def test_by_hand():
    # Windows of three channels: 1 + 4, 1 + 4 + 4, 4 + 4; each value over its window's sum plus 1.
    x = jnp.array([1.0, 2.0, 2.0])
    np.testing.assert_allclose(local_response_norm(x, 3, 1.0, 1.0, 1.0), [1 / 6, 2 / 10, 2 / 9], rtol=1e-6)


def test_defaults_are_those_of_alexnet_and_alpha_is_of_the_sum():
    x = jnp.full((1, 9), 100.0)
    # In the middle five squares of 100, not their mean: 2 + 1e-4 * 50,000 = 7.
    assert float(local_response_norm(x)[0, 4]) == pytest.approx(100 / 7**0.75)


def test_an_even_window_has_its_odd_channel_before():
    x = jnp.array([0.0, 1.0, 0.0])
    seen = [float(local_response_norm(x + at, 2, 1.0, 1.0, 1.0)[1]) for at in jnp.eye(3)[jnp.array([0, 2])]]
    assert seen == [pytest.approx(1 / 3), pytest.approx(1 / 2)]


def test_half_precision_is_computed_in_float32_and_given_back():
    x = jnp.linspace(1, 200, 16, dtype=jnp.bfloat16)
    y = local_response_norm(x)
    assert y.dtype == jnp.bfloat16
    assert jnp.array_equal(y, local_response_norm(x.astype(jnp.float32)).astype(jnp.bfloat16))


def test_gradient():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6)), jnp.float32)
    # Finite differences of float32 values.
    check_grads(jax.jit(lambda x: local_response_norm(x, 3, 0.5, 0.75, 1.0)), (x,), order=1, rtol=1e-2)
