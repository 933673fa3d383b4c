"""Laws that every public metric obeys, found by walking the folder: a new metric needs no test of its own for these.

A metric that takes a mask turns a batch into an accumulator; the others turn an accumulator into a value.
"""

import functools
from collections.abc import Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from research import losses, metrics
from tests.drawing import FORMS, draw

EXAMPLES = 12


def _cases() -> Iterator[tuple[str, str, str]]:
    for name in metrics.names():
        match list(losses.meanings(metrics.get(name)).values()):
            case [_, meaning, "mask"]:
                yield from ((name, meaning, form) for form in FORMS[meaning])


CASES = list(_cases())
every_case = pytest.mark.parametrize(("name", "meaning", "form"), CASES)


@functools.cache
def _compiled(name: str) -> Any:
    return jax.jit(metrics.get(name))


def _assert_same(one: Any, other: Any) -> None:
    """Counts to the bit; float sums, which depend on the order of adding, to float32's precision for a few terms."""
    chex.assert_trees_all_equal_structs(one, other)
    chex.assert_trees_all_equal_dtypes(one, other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6 if jnp.issubdtype(a.dtype, jnp.floating) else 0)


@pytest.fixture(autouse=True)
def _strict_promotion() -> Iterator[None]:
    with jax.numpy_dtype_promotion("strict"):
        yield


def test_every_metric_is_exported_and_described() -> None:
    assert CASES
    for name in metrics.names():
        assert getattr(metrics, name) is metrics.get(name)
        assert metrics.get(name).__doc__


@every_case
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), parts=st.lists(st.integers(0, 3), min_size=EXAMPLES, max_size=EXAMPLES))
def test_merging_any_partition_equals_one_pass(name: str, meaning: str, form: str, seed: int, parts: list[int]) -> None:
    logits, labels, _ = (np.asarray(a) for a in draw(meaning, form, seed=seed, b=EXAMPLES))
    merged = None
    for part in set(parts):
        chosen = np.flatnonzero(np.asarray(parts) == part)
        # Each part is padded to one size, so that all share a compiled program, with an example that is real elsewhere.
        padded = np.pad(chosen, (0, EXAMPLES - len(chosen)), constant_values=EXAMPLES - 1)
        mask = (np.arange(EXAMPLES) < len(chosen)).astype(np.float32)
        seen = _compiled(name)(logits[padded], labels[padded], mask)
        merged = seen if merged is None else metrics.merge(merged, seen)
    _assert_same(merged, _compiled(name)(logits, labels, np.ones(EXAMPLES, np.float32)))


@every_case
def test_a_masked_example_changes_nothing(name: str, meaning: str, form: str) -> None:
    logits, labels, _ = draw(meaning, form, seed=1)
    mask = jnp.asarray([1, 1, 0, 1, 0, 1], jnp.float32)
    expected = metrics.get(name)(logits, labels, mask)
    real = np.flatnonzero(mask)
    _assert_same(expected, metrics.get(name)(logits[real], labels[real], mask[real]))
    for padding in (jnp.inf, -jnp.inf, jnp.nan):
        other = metrics.get(name)(logits.at[2].set(padding), labels.at[2].set(1 - labels[2]), mask)
        chex.assert_trees_all_equal(other, expected)


@every_case
def test_an_empty_mask_accumulates_zeros(name: str, meaning: str, form: str) -> None:
    logits, labels, _ = draw(meaning, form, seed=2)
    seen = metrics.get(name)(logits, labels, jnp.zeros(len(labels)))
    assert not any(leaf.any() for leaf in jax.tree.leaves(seen))
    if isinstance(seen, metrics.Mean):
        assert float(metrics.average(seen)) == 0


@every_case
def test_the_order_of_the_batch_does_not_matter(name: str, meaning: str, form: str) -> None:
    logits, labels, _ = draw(meaning, form, seed=3)
    mask = jnp.asarray([1, 0, 1, 1, 1, 1], jnp.float32)
    order = np.random.default_rng(3).permutation(len(labels))
    _assert_same(metrics.get(name)(logits[order], labels[order], mask[order]), metrics.get(name)(logits, labels, mask))


@every_case
def test_bfloat16_inputs_give_the_accumulator_types_of_float32(name: str, meaning: str, form: str) -> None:
    logits, labels, _ = draw(meaning, form, seed=4)
    rounded = logits.astype(jnp.bfloat16)
    mask = jnp.ones(len(labels))
    _assert_same(metrics.get(name)(rounded, labels, mask), metrics.get(name)(rounded.astype(jnp.float32), labels, mask))


class CompiledMetrics(chex.TestCase):
    """The same accumulators without jit, with jit, on a chosen device and under pmap."""

    @chex.all_variants
    @parameterized.parameters(*CASES)
    def test_compiled_equals_not_compiled(self, name: str, meaning: str, form: str) -> None:
        logits, labels, _ = draw(meaning, form, seed=5)
        mask = jnp.asarray([1, 1, 1, 1, 0, 1], jnp.float32)
        with jax.numpy_dtype_promotion("strict"):
            _assert_same(self.variant(metrics.get(name))(logits, labels, mask), metrics.get(name)(logits, labels, mask))
