"""Laws that every public loss obeys, found by walking the folder: a new loss needs no test of its own for these."""

import functools
import inspect
from collections.abc import Iterator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from research import losses
from tests.drawing import EXTREME, FORMS, draw


def _cases() -> Iterator[tuple[str, str, str, str]]:
    for name in losses.names():
        _, meaning = losses.meanings(losses.get(name)).values()
        smoothed = "label_smoothing" in inspect.signature(losses.get(name)).parameters
        for form in FORMS[meaning]:
            for option in ("plain", "smoothed") if smoothed else ("plain",):
                yield name, meaning, form, option


CASES = list(_cases())
every_case = pytest.mark.parametrize(("name", "meaning", "form", "option"), CASES)


def _loss(name: str, option: str) -> losses.Loss:
    return functools.partial(losses.get(name), **({"label_smoothing": 0.1} if option == "smoothed" else {}))


@pytest.fixture(autouse=True)
def _strict_promotion() -> Iterator[None]:
    with jax.numpy_dtype_promotion("strict"):
        yield


def test_there_are_losses_to_hold_to_the_laws() -> None:
    assert len(CASES) >= 2
    for name in losses.names():
        assert getattr(losses, name) is losses.get(name)
        assert losses.get(name).__doc__


@every_case
def test_values_are_per_example_float32_and_not_negative(name: str, meaning: str, form: str, option: str) -> None:
    logits, labels, _ = draw(meaning, form, seed=1)
    values = _loss(name, option)(logits, labels)
    chex.assert_shape(values, (len(labels),))
    chex.assert_type(values, jnp.float32)
    assert float(values.min()) >= 0


@pytest.mark.parametrize(("name", "meaning", "form"), sorted({case[:3] for case in CASES}))
def test_a_perfect_prediction_costs_nothing(name: str, meaning: str, form: str) -> None:
    _, labels, perfect = draw(meaning, form, seed=2)
    np.testing.assert_array_equal(losses.get(name)(perfect, labels), 0)


@every_case
@pytest.mark.parametrize("sign", [1, -1])
def test_value_and_gradient_are_finite_at_the_extremes(
    name: str, meaning: str, form: str, option: str, sign: int
) -> None:
    _, labels, perfect = draw(meaning, form, seed=3)
    value, gradient = jax.value_and_grad(lambda x: _loss(name, option)(x, labels).sum())(sign * perfect)
    chex.assert_tree_all_finite((value, gradient))
    same = jnp.full_like(perfect, sign * EXTREME)
    chex.assert_tree_all_finite(jax.value_and_grad(lambda x: _loss(name, option)(x, labels).sum())(same))


@every_case
def test_the_gradient_is_the_numerical_one(name: str, meaning: str, form: str, option: str) -> None:
    logits, labels, _ = draw(meaning, form, seed=4)
    # Central differences of float32 values of size 10 with step 1e-3 are good to about 1e-3; 1e-2 is chex's own bound.
    # It differentiates with NumPy arrays.
    chex.assert_numerical_grads(
        lambda x: _loss(name, option)(jnp.asarray(x), labels).mean(), (logits,), order=1, atol=1e-2
    )


@every_case
def test_vmapped_equals_looped(name: str, meaning: str, form: str, option: str) -> None:
    drawn = [draw(meaning, form, seed=seed)[:2] for seed in (5, 6, 7)]
    logits, labels = (jnp.stack(parts) for parts in zip(*drawn, strict=True))
    looped = jnp.stack([_loss(name, option)(*one) for one in drawn])
    # The sums over classes may be taken in another order.
    np.testing.assert_allclose(jax.vmap(_loss(name, option))(logits, labels), looped, rtol=1e-6, atol=1e-6)


@every_case
def test_bfloat16_inputs_are_computed_in_float32(name: str, meaning: str, form: str, option: str) -> None:
    logits, labels, _ = draw(meaning, form, seed=8)
    rounded = logits.astype(jnp.bfloat16)
    values = _loss(name, option)(rounded, labels)
    chex.assert_type(values, jnp.float32)
    np.testing.assert_array_equal(values, _loss(name, option)(rounded.astype(jnp.float32), labels))
    # Rounding moves a logit by at most 2^-8 of its size, and no logit moves these losses by more than its own move.
    bound = 2.0**-8 * jnp.abs(logits).sum(axis=-1)
    assert bool((jnp.abs(values - _loss(name, option)(logits, labels)) <= bound).all())


@every_case
def test_permuting_the_batch_permutes_the_values(name: str, meaning: str, form: str, option: str) -> None:
    logits, labels, _ = draw(meaning, form, seed=9)
    order = np.random.default_rng(9).permutation(len(labels))
    moved = _loss(name, option)(logits[order], labels[order])
    np.testing.assert_array_equal(moved, _loss(name, option)(logits, labels)[order])


@every_case
def test_a_masked_example_changes_nothing(name: str, meaning: str, form: str, option: str) -> None:
    logits, labels, _ = draw(meaning, form, seed=10)
    mask = jnp.asarray([1, 1, 0, 1, 0, 1], jnp.float32)

    def reduced(x: jax.Array) -> jax.Array:
        return losses.masked_mean(_loss(name, option)(x, labels), mask)

    expected, gradient = jax.value_and_grad(reduced)(logits)
    real = np.flatnonzero(mask)
    alone = _loss(name, option)(logits[real], labels[real]).mean()
    np.testing.assert_allclose(expected, alone, rtol=1e-6)  # the sum may be taken in another order
    assert not bool(gradient[2].any())
    for padding in (EXTREME, -EXTREME, jnp.inf, jnp.nan):
        np.testing.assert_array_equal(reduced(logits.at[2].set(padding).at[4].set(padding)), expected)


class CompiledLosses(chex.TestCase):
    """The same values without jit, with jit, on a chosen device and under pmap."""

    @chex.all_variants
    @parameterized.parameters(*CASES)
    def test_compiled_equals_not_compiled(self, name: str, meaning: str, form: str, option: str) -> None:
        logits, labels, _ = draw(meaning, form, seed=11)
        with jax.numpy_dtype_promotion("strict"):
            values = self.variant(_loss(name, option))(logits, labels)
            # Fusing may round an intermediate differently: a few units in the last place of values of size 10.
            np.testing.assert_allclose(values, _loss(name, option)(logits, labels), rtol=1e-5, atol=1e-6)
