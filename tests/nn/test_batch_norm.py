"""Our batch normalisation is Flax's: variables, values, derivatives of every order; on one device and on several."""

import functools
from typing import Any

import flax.linen as nn
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.nn.batch_norm import BatchNorm
from research.nn.sums import at_positions, over_positions
from research.testing.model_laws import QUICK


def variables(module: nn.Module, x: jax.Array) -> Any:
    """What `init` makes, with parameters that are not all the same."""
    made = module.init(jax.random.key(0), x)
    keys = iter(jax.random.split(jax.random.key(1), 2))
    moved = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(next(keys), p.shape), made.get("params", {}))
    return {"params": moved, "batch_stats": made["batch_stats"]}


@hypothesis.settings(max_examples=8)
@hypothesis.given(
    shape=st.lists(st.integers(2, 5), min_size=2, max_size=5),
    use_scale=st.booleans(),
    use_bias=st.booleans(),
    momentum=st.sampled_from([0.9, 0.99]),
)
def test_equals_flax(shape: list[int], use_scale: bool, use_bias: bool, momentum: float) -> None:
    x = 2 * jax.random.normal(jax.random.key(2), shape) + 1
    fields = {"use_scale": use_scale, "use_bias": use_bias, "momentum": momentum, "use_running_average": False}
    ours, theirs = BatchNorm(**fields), nn.BatchNorm(**fields)
    given = variables(theirs, x)
    assert jax.tree.structure(ours.init(jax.random.key(0), x)) == jax.tree.structure(theirs.init(jax.random.key(0), x))

    def all_of(module: nn.Module) -> Any:
        def apply(params: Any, x: jax.Array) -> Any:
            return module.apply({**given, "params": params}, x, mutable=["batch_stats"])

        def first(params: Any, x: jax.Array) -> Any:
            return jax.grad(lambda p, x: jnp.sum(jnp.sin(3 * apply(p, x)[0])), argnums=(0, 1))(params, x)

        second = jax.grad(lambda x: jnp.sum(first(given["params"], x)[1] ** 2))(x)
        tangent = jax.jvp(lambda x: apply(given["params"], x)[0], (x,), (jnp.cos(x),))[1]
        batched = jax.vmap(first, (None, 0))(given["params"], jnp.stack([x, 2 * x]))
        return apply(given["params"], x), first(given["params"], x), second, tangent, batched

    # One program each: by itself every operation of every shape would be compiled on its own.
    found, expected = (
        jax.jit(lambda module=module: all_of(module), compiler_options=QUICK)() for module in (ours, theirs)
    )
    # With two examples the variance can be small, and derivatives divide by its root, up to its fifth power.
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3 * max(1.0, float(jnp.abs(other).max())))


def test_bfloat16_maps_have_float32_statistics() -> None:
    x = jax.random.normal(jax.random.key(2), (64, 8, 8, 3)).astype(jnp.bfloat16) + 4
    made = []
    for kind in (BatchNorm, nn.BatchNorm):
        module = kind(use_running_average=False, dtype=jnp.bfloat16)
        y, updated = module.apply(module.init(jax.random.key(0), x), x, mutable=["batch_stats"])
        made.append((y, updated["batch_stats"]))
    (ours, statistics), (theirs, expected) = made
    assert ours.dtype == theirs.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        ours.astype(jnp.float32), theirs.astype(jnp.float32), atol=2**-6
    )  # 8 bits, values near 2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), statistics, expected)


@pytest.mark.parametrize("fields", [{"axis": 1}, {}])
def test_the_rest_is_flaxs_own(fields: dict[str, Any]) -> None:
    x = jax.random.normal(jax.random.key(2), (4, 3, 5))
    mask = jnp.asarray([True, True, False, True])[:, None, None]
    for keywords in ({"mask": mask}, {}):
        made = [kind(use_running_average=False, **fields) for kind in (BatchNorm, nn.BatchNorm)]
        ys = [m.apply(m.init(jax.random.key(0), x), x, mutable=["batch_stats"], **keywords)[0] for m in made]
        np.testing.assert_allclose(*ys, atol=1e-5)


@pytest.mark.on_cpu
def test_devices_share_their_statistics() -> None:
    x = jax.random.normal(jax.random.key(2), (4, 6, 5, 3)) * jnp.arange(1.0, 5.0)[:, None, None, None]
    whole, parts = (BatchNorm(use_running_average=False, axis_name=name) for name in (None, "devices"))
    given = variables(whole, x)

    def gradient(module: nn.Module, x: jax.Array) -> Any:
        def loss(x: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(module.apply(given, x, mutable=["batch_stats"])[0]))

        return loss(x), jax.grad(loss)(x)

    loss, expected = gradient(whole, x.reshape(-1, 5, 3))
    losses, gradients = jax.pmap(lambda x: gradient(parts, x), axis_name="devices", devices=jax.devices()[:4])(x)
    np.testing.assert_allclose(losses.sum(), loss, rtol=1e-5)
    # Each device differentiates its own loss, and statistics are means over devices: together the whole gradient.
    np.testing.assert_allclose(gradients.reshape(expected.shape), expected, atol=1e-5)


@hypothesis.settings(max_examples=8)
@hypothesis.given(shape=st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_sums_over_positions_and_values_at_them(shape: list[int]) -> None:
    rng = np.random.default_rng(0)
    x, values = np.float32(rng.standard_normal(shape)), np.arange(1, shape[-1] + 1, dtype=np.float32)
    two, pairs = np.stack([x, 2 * x], 1), np.stack([values, -values])
    spread = functools.partial(at_positions, shape=tuple(shape))

    @functools.partial(jax.jit, compiler_options=QUICK)  # one program: each operation of each shape would be another
    def found(x: jax.Array, values: jax.Array, two: jax.Array, pairs: jax.Array) -> tuple[jax.Array, ...]:
        return (
            over_positions(x),
            spread(values),
            jax.grad(lambda x: over_positions(x) @ values)(x),
            jax.grad(lambda v: jnp.sum(spread(v) * x))(values),
            jax.vmap(over_positions, 1)(two),
            jax.vmap(spread)(pairs),
            jax.vmap(jax.grad(lambda v: jnp.sum(spread(v) ** 2)))(pairs),
        )

    sums, everywhere = x.sum(tuple(range(len(shape) - 1))), np.broadcast_to(values, shape)
    total, given, of_sum, of_spread, totals, pair, of_squares = found(x, values, two, pairs)
    np.testing.assert_allclose(total, sums, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(given, everywhere)
    # Each is the other's transpose: <sum(x), v> = <x, spread(v)>, and of any order.
    np.testing.assert_allclose(of_sum, everywhere)
    np.testing.assert_allclose(of_spread, sums, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(totals, np.stack([sums, 2 * sums]), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(pair, np.stack([everywhere, -everywhere]))
    np.testing.assert_allclose(of_squares, 2 * pairs * x[..., 0].size, rtol=1e-5)


@pytest.mark.on_cpu
def test_the_derivative_needs_two_sums_over_the_batch() -> None:
    x, module = jnp.ones((8, 6, 5, 3)), BatchNorm(use_running_average=False)
    given = module.init(jax.random.key(0), x)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.sum(module.apply({**given, "params": params}, x, mutable=["batch_stats"])[0] ** 2)

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(given["params"], x).compile().as_text()
    # Two forward (mean and variance) and two backward, each a product with ones.
    assert text.count(" dot(") == 4
