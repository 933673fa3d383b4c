"""Laws that every public loss obeys, found by walking the folder: a new loss needs no test of its own for these."""

import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from research import losses
from tests.drawing import EXTREME, Case, Drawn, cases, drawn, meanings

CASES = list(cases({name: losses.get(name) for name in losses.names()}))
PER_EXAMPLE = [case for case in CASES if losses.kind(losses.get(case.name)) == "per example"]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_per_example = pytest.mark.parametrize("case", PER_EXAMPLE, ids=str)

# The least value of those for which it is not 0: sqrt(0 + 0.001^2).
LEAST = {"charbonnier": 1e-3}
# What is said of the data, and not learned: a gradient to it is asked of none.
GIVEN = {"class labels", "binary labels", "signs", "objects", "object grid", "pixel truth", "yes or no"}
# What is right depends on more than their first input.
RELATIVE = (
    *("triplet", "mined_triplet", "contrastive", "siamese", "mixture", "hinge_", "non_saturating", "least_squares"),
    *("wasserstein", "gradient_penalty", "r1"),
)
# The gradient is not that of the value, but goes to its inputs in shares: z's share of (1 + beta) |z - e|^2.
SHARES = {"vq_commitment": 0.25 / 1.25}


@pytest.fixture(autouse=True)
def _strict_promotion() -> Iterator[None]:
    with jax.numpy_dtype_promotion("strict"):
        yield


def _floats(change: Callable[[Any], Any], tree: Any) -> Any:
    """A tree with its float arrays changed."""
    return jax.tree.map(lambda a: change(a) if jnp.issubdtype(jnp.result_type(a), jnp.floating) else a, tree)


class Bound:
    """One loss with its options, of one tuple of arrays."""

    def __init__(self, case: Case, seed: int) -> None:
        self.function = losses.get(case.name)
        self.drawn: Drawn = drawn(self.function, case.form, seed=seed)
        self.inputs = jax.tree.map(jnp.asarray, self.drawn.inputs)
        self.loss = functools.partial(self.function, *self.drawn.bound, **dict(case.options))

    def __call__(self, inputs: Any, **options: Any) -> jax.Array:
        return self.loss(*inputs, **options)

    def total(self, first: Any) -> jax.Array:
        """The sum of the values, as a function of the predictions."""
        return jnp.sum(self((first, *self.inputs[1:])))


def test_there_are_losses_of_every_kind_to_hold_to_the_laws() -> None:
    modules = {path.stem for path in Path(str(losses.__file__)).parent.glob("*.py")}
    assert not modules & set(losses.names())  # `losses.NAME` would be the file, once it is imported
    assert {losses.kind(losses.get(name)) for name in losses.names()} == {"per example", "batch", "penalty"}
    for name in losses.names():
        assert getattr(losses, name) is losses.get(name)
        assert losses.get(name).__doc__
        keywords = [p for p in inspect.signature(losses.get(name)).parameters.values() if p.default is not p.empty]
        assert all(p.kind is p.KEYWORD_ONLY for p in keywords), name


@every_case
def test_values_are_float32_and_not_negative_unless_so_declared(case: Case) -> None:
    bound = Bound(case, 1)
    values = bound(bound.inputs)
    chex.assert_shape(values, (6,) if case in PER_EXAMPLE else ())
    chex.assert_type(values, jnp.float32)
    chex.assert_tree_all_finite(values)
    if not losses.signed(bound.function):
        assert float(values.min()) >= 0


@pytest.mark.parametrize("case", [c for c in CASES if not set(dict(c.options)) & {"label_smoothing"}], ids=str)
def test_a_perfect_prediction_costs_nothing(case: Case) -> None:
    bound = Bound(case, 2)
    if bound.drawn.perfect is None:
        assert case.name.startswith(RELATIVE)
        return
    perfect = bound((jax.tree.map(jnp.asarray, bound.drawn.perfect), *bound.inputs[1:]))
    if losses.signed(bound.function):
        assert bool((perfect <= bound(bound.inputs)).all())
    else:
        # A sum of a few products of float32 numbers near 1, each rounded once: 1 - 1 is 1e-6 at worst.
        np.testing.assert_allclose(perfect, LEAST.get(case.name, 0.0), rtol=1e-6, atol=1e-6)


@every_case
def test_value_and_gradient_are_finite_at_the_extremes(case: Case) -> None:
    bound = Bound(case, 3)
    learned = [
        i for i, meaning in enumerate(meanings(bound.function)[len(bound.drawn.bound) :]) if meaning not in GIVEN
    ]

    def total(parts: list[Any], inputs: Any) -> jax.Array:
        return jnp.sum(bound([parts[learned.index(i)] if i in learned else a for i, a in enumerate(inputs)]))

    gradient = jax.value_and_grad(total, allow_int=True)
    extremes = [_floats(lambda a, v=v: jnp.full_like(a, v), bound.inputs) for v in (EXTREME, -EXTREME, 0.0)]
    first, *others = bound.inputs
    extremes += [(_floats(lambda a, v=v: jnp.full_like(a, v), first), *others) for v in (EXTREME, -EXTREME, 0.0)]
    extremes.append((_floats(lambda a: EXTREME * jnp.sign(a), first), *others))
    if bound.drawn.perfect is not None:
        perfect = jax.tree.map(jnp.asarray, bound.drawn.perfect)
        extremes += [(perfect, *others), (_floats(jnp.negative, perfect), *others)]
    same = [other for other in others if jax.tree.structure(other) == jax.tree.structure(first)]
    if same and jax.tree.leaves(same[0])[0].shape == jax.tree.leaves(first)[0].shape:
        extremes.append((first, *(first if other is same[0] else other for other in others)))
    for inputs in extremes:
        value, slopes = gradient([inputs[i] for i in learned], inputs)
        chex.assert_tree_all_finite((value, [s for s in jax.tree.leaves(slopes) if s.dtype != jax.dtypes.float0]))


@every_case
def test_the_gradient_is_the_numerical_one(case: Case) -> None:
    # Where a function has a kink within the step there is no one slope: there another example is drawn.
    smooth = [seed for seed in range(4, 24) if _slopes_agree(case, seed) is not None][:2]
    assert smooth
    assert all(_slopes_agree(case, seed) for seed in smooth)


def _slopes_agree(case: Case, seed: int) -> bool | None:
    """Whether the slope along some direction is the numerical one; None where half the step gives another."""
    bound = Bound(case, seed)
    rng = np.random.default_rng(seed)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), bound.inputs[0])

    def numerical(step: float) -> float:
        ahead, behind = (
            float(bound.total(jax.tree.map(lambda a, d, s=s: a + s * d, bound.inputs[0], direction)))
            for s in (step, -step)
        )
        return SHARES.get(case.name, 1.0) * (ahead - behind) / (2 * step)

    # float32 keeps 7 digits of a value, so a step of 2e-3 leaves 4 of the slope of one that is as large as it.
    slope, finer = numerical(2e-3), numerical(1e-3)
    tolerance = 1e-2 * max(abs(slope), 1.0) + 2e-4 * abs(float(bound.total(bound.inputs[0])))
    if abs(slope - finer) > tolerance:
        return None
    gradient = jax.grad(bound.total)(bound.inputs[0])
    exact = sum(float(jnp.vdot(g, d)) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    return abs(exact - finer) <= 2 * tolerance


@every_per_example
def test_vmapped_equals_looped(case: Case) -> None:
    bounds = [Bound(case, seed) for seed in (5, 6, 7)]
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *(bound.inputs for bound in bounds))
    looped = jnp.stack([bounds[0](bound.inputs) for bound in bounds])
    # The sums may be taken in another order.
    np.testing.assert_allclose(jax.vmap(bounds[0])(stacked), looped, rtol=2e-6, atol=1e-5)


@every_case
def test_bfloat16_inputs_are_computed_in_float32(case: Case) -> None:
    bound = Bound(case, 8)
    rounded = _floats(lambda a: a.astype(jnp.bfloat16), bound.inputs)
    values = bound(rounded)
    chex.assert_type(values, jnp.float32)
    exact = _floats(lambda a: a.astype(jnp.float32), rounded)
    np.testing.assert_allclose(values, bound(exact), rtol=1e-6, atol=1e-6)
    # Rounding moves a number by at most 2^-9 of its size, and a value, to first order, by its slopes times that: with
    # what is curved, and slopes that are not the same after rounding, within three times as much.
    slopes = [jax.grad(lambda i: jnp.sum(bound(i)), allow_int=True)(inputs) for inputs in (bound.inputs, exact)]
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b) if a.dtype == jnp.float32 else 0 * a, bound.inputs, exact)
    bound_of = sum(
        float(jnp.sum(jnp.abs(g) * m))
        for slope in slopes
        for g, m in zip(jax.tree.leaves(slope), jax.tree.leaves(moved), strict=True)
        if g.dtype == jnp.float32
    )
    share = SHARES.get(case.name, 1.0)
    assert abs(float(jnp.sum(values) - jnp.sum(bound(bound.inputs)))) <= 3 * bound_of / share + 1e-5


def _taken(inputs: Any, rows: Any) -> Any:
    """Examples of inputs: what has no examples (a key) stays."""
    return jax.tree.map(lambda a: a[rows] if a.shape[:1] == (6,) else a, inputs)


@pytest.mark.parametrize("case", [c for c in CASES if losses.kind(losses.get(c.name)) != "penalty"], ids=str)
def test_permuting_the_batch_permutes_the_values(case: Case) -> None:
    bound = Bound(case, 9)
    order = np.random.default_rng(9).permutation(6)
    values = bound(bound.inputs)
    # Only where examples are compared with one another does their order change the order of adding.
    np.testing.assert_allclose(
        bound(_taken(bound.inputs, order)), values[order] if case in PER_EXAMPLE else values, rtol=1e-6
    )


@every_case
def test_a_masked_example_changes_nothing(case: Case) -> None:
    bound = Bound(case, 10)
    mask = jnp.asarray([1, 1, 0, 1, 0, 1], jnp.float32)
    real = np.flatnonzero(mask)
    if case in PER_EXAMPLE:
        reduced = lambda inputs: losses.masked_mean(bound(inputs), mask)  # noqa: E731
        alone = bound(_taken(bound.inputs, real)).mean()
    elif "mask" in inspect.signature(bound.function).parameters:
        reduced = lambda inputs: bound(inputs, mask=mask)  # noqa: E731
        # Draws are made for the whole batch: of a penalty that draws, only that padding has no effect is a law.
        alone = reduced(bound.inputs) if case.name == "gradient_penalty" else bound(_taken(bound.inputs, real))
    else:
        assert case.name == "l2"  # of parameters, which are no examples
        return
    expected, slopes = jax.value_and_grad(reduced, allow_int=True)(bound.inputs)
    np.testing.assert_allclose(expected, alone, rtol=1e-5)  # the sum may be taken in another order
    for slope in jax.tree.leaves(slopes):
        if slope.dtype != jax.dtypes.float0 and slope.shape[:1] == (6,):
            assert not bool(slope[2].any()), "a gradient to padding"
    expected = reduced(bound.inputs)
    for padding in (EXTREME, -EXTREME, jnp.inf, jnp.nan):
        first = _floats(lambda a, v=padding: a.at[2].set(v).at[4].set(v), bound.inputs[0])
        np.testing.assert_array_equal(reduced((first, *bound.inputs[1:])), expected)


class CompiledLosses(chex.TestCase):
    """The same values without jit, with jit, on a chosen device and under pmap."""

    @chex.all_variants
    @parameterized.named_parameters((f"_{i}_{case.name}", case) for i, case in enumerate(CASES))
    def test_compiled_equals_not_compiled(self, case: Case) -> None:
        bound = Bound(case, 11)
        with jax.numpy_dtype_promotion("strict"):
            values = self.variant(bound.__call__)(bound.inputs)
            # Fusing may round an intermediate differently: a few units in the last place of values of size 10.
            np.testing.assert_allclose(values, bound(bound.inputs), rtol=1e-5, atol=1e-5)
