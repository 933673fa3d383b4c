"""Pools and their derivatives are XLA's own, ties included; accelerators are given XLA's own."""

import functools
from typing import Any

import flax.linen as nn
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn import pooling, windows
from research.nn.windows import Windows


@st.composite
def pools(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    """The size of maps and the fields of windows over them, of any rank."""
    rank = draw(st.integers(1, 3))
    each = lambda values: tuple(draw(values) for _ in range(rank))  # noqa: E731
    size, strides = each(st.integers(1, 3)), each(st.integers(1, 4))
    # A window that lies in the padding alone has no largest value.
    padding = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in size)
    space = tuple(draw(st.integers(k, k + 5)) for k in size)
    return space, (size, strides, padding)


def maps(space: tuple[int, ...], channels: int = 3) -> jax.Array:
    """Whole numbers from -3 to 3, so that many windows have several largest values."""
    numbers = np.random.default_rng(0).integers(-3, 4, (2, *space, channels))
    return jnp.asarray(numbers, jnp.float32)


def kinds(over: Windows) -> list[tuple[Any, Any]]:
    """Ours and XLA's."""
    total = lambda x: nn.pooling.pool(x, 0.0, jax.lax.add, over.size, over.strides, over.padding)  # noqa: E731
    largest = lambda x: nn.max_pool(x, over.size, over.strides, over.padding)  # noqa: E731
    return [(lambda x: windows.largest(x, over), largest), (lambda x: windows.total(x, over), total)]


@hypothesis.settings(max_examples=12)
@hypothesis.given(drawn=pools())
def test_values_and_derivatives_are_those_of_xla(drawn: Any) -> None:
    space, over = drawn[0], Windows(*drawn[1])
    x = maps(space)
    for ours, theirs in kinds(over):
        weights = jnp.asarray(np.random.default_rng(1).normal(size=theirs(x).shape), jnp.float32)

        def all_of(f: Any, weights: jax.Array = weights) -> Any:
            first = jax.grad(lambda x: jnp.sum(jnp.sin(f(x)) * weights))
            second = jax.grad(lambda x: jnp.sum(first(x) ** 2))
            tangent = jax.jvp(f, (x,), (jnp.cos(x),))[1]
            batched = jax.vmap(first)(jnp.stack([x, x + 1]))
            return f(x), first(x), second(x), tangent, batched

        for one, other in zip(*(jax.jit(functools.partial(all_of, f))() for f in (ours, theirs)), strict=True):
            # Sums of at most 27 terms, in another order.
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


def test_a_gradient_goes_to_the_first_of_equal_values() -> None:
    x = jnp.zeros((1, 4, 4, 1))
    gradient = jax.grad(lambda x: jnp.sum(pooling.max_pool(x, 2, 2)))(x)[0, :, :, 0]
    np.testing.assert_array_equal(gradient, [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])


def test_windows_too_large_to_write_out_are_xlas() -> None:
    x = maps((9, 9))
    over = Windows((8, 8), (1, 1), ((0, 0), (0, 0)))
    text = jax.jit(lambda x: windows.largest(x, over)).lower(x).as_text()
    assert "reduce_window" in text
    np.testing.assert_array_equal(windows.largest(x, over), nn.max_pool(x, (8, 8)))


def test_a_window_over_one_infinite_value() -> None:
    x = maps((4, 4)).at[0, 0, 0, 0].set(jnp.inf).at[0, 3, 3, 1].set(-jnp.inf)
    over = Windows((3, 3), (2, 2), ((1, 1), (1, 1)))
    for ours, theirs in kinds(over)[:1]:
        np.testing.assert_array_equal(ours(x), theirs(x))
        gradient = lambda f: jax.grad(lambda x: jnp.sum(jnp.where(jnp.isfinite(f(x)), f(x), 0)))(x)  # noqa: E731
        np.testing.assert_array_equal(gradient(ours), gradient(theirs))


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_are_given_native_windows(platform: str) -> None:
    x, over = maps((8, 8)), Windows((3, 3), (2, 2), ((1, 1), (1, 1)))
    step = jax.grad(lambda x: jnp.sum(windows.largest(x, over) ** 2) + jnp.sum(windows.total(x, over) ** 2))
    text = jax.jit(step).trace(x).lower(lowering_platforms=(platform,)).as_text()
    assert "reduce_window" in text
    assert "select_and_scatter" in text
    assert "custom_call" not in text
    assert "stablehlo.case" not in text
