"""Laws that every public metric obeys, found by walking the folder: a new metric needs no test of its own for these.

A metric that takes a mask turns a batch into an accumulator; the others turn an accumulator into a value. Accumulators
that hold rows are compared as sets of rows, without padding: their order means nothing.
"""

import functools
import inspect
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
from tests.drawing import Case, Drawn, cases, drawn

EXAMPLES = 12
OF_BATCHES = {name: metrics.get(name) for name in metrics.names() if "mask" in losses.meanings(metrics.get(name))}
ALL = list(cases(OF_BATCHES))
# MS-SSIM halves a picture four times: what is drawn here is too small for it, and it has its own test.
CASES = [case for case in ALL if case.name != "ms_ssim"]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def _on_host(case: Case) -> bool:
    return "texts" in losses.meanings(OF_BATCHES[case.name]).values()


NUMERIC = [case for case in CASES if not _on_host(case)]
every_numeric = pytest.mark.parametrize("case", NUMERIC, ids=str)


def _inputs(case: Case, seed: int, b: int = 6) -> tuple[Any, ...]:
    seen: Drawn = drawn(OF_BATCHES[case.name], case.form, seed=seed, b=b)
    return seen.inputs if _on_host(case) else jax.tree.map(jnp.asarray, seen.inputs)


def _metric(case: Case) -> Any:
    return functools.partial(OF_BATCHES[case.name], **dict(case.options))


@functools.cache
def _compiled(case_id: int) -> Any:
    case = CASES[case_id]
    return _metric(case) if _on_host(case) else jax.jit(_metric(case))


def _taken(case: Case, inputs: Any, rows: Any) -> Any:
    if _on_host(case):
        return tuple([texts[i] for i in rows] for texts in inputs)
    return jax.tree.map(lambda a: a[jnp.asarray(rows)], inputs)


def _another(values: Any, number: float) -> Any:
    """What padding may hold as well: that number, or other whole numbers."""
    if jnp.issubdtype(values.dtype, jnp.floating):
        return jnp.full_like(values, number)
    return (1 - values.astype(jnp.int32)).astype(values.dtype)


def _canonical(accumulated: Any) -> Any:
    """Rows without padding and in the order of their numbers."""

    def sorted_rows(node: Any) -> Any:
        if "mask" not in getattr(node, "_fields", ()):
            return node
        host = [np.asarray(a)[np.asarray(node.mask)] for a in node]
        keys = [column for a in reversed(host) for column in a.reshape(len(a), a.size // max(len(a), 1)).T[::-1]]
        order = np.lexsort(keys) if len(host[0]) else []
        return type(node)(*(a[order] for a in host))

    return jax.tree.map(sorted_rows, accumulated, is_leaf=lambda node: "mask" in getattr(node, "_fields", ()))


def _assert_same(one: Any, other: Any) -> None:
    """Counts to the bit; float sums, which depend on the order of adding, to float32's precision for a few terms."""
    one, other = _canonical(one), _canonical(other)
    chex.assert_trees_all_equal_structs(one, other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        # 1e-5 beside 0: of moments and entropies, which are differences of numbers of about 10.
        exact = not jnp.issubdtype(a.dtype, jnp.floating)
        np.testing.assert_allclose(a, b, rtol=0 if exact else 2e-6, atol=0 if exact else 1e-5)


@pytest.fixture(autouse=True)
def _strict_promotion() -> Iterator[None]:
    with jax.numpy_dtype_promotion("strict"):
        yield


def test_every_metric_is_exported_and_described() -> None:
    assert ALL
    for name in metrics.names():
        assert getattr(metrics, name) is metrics.get(name)
        assert metrics.get(name).__doc__
        keywords = [p for p in inspect.signature(metrics.get(name)).parameters.values() if p.default is not p.empty]
        assert all(p.kind is p.KEYWORD_ONLY for p in keywords), name


@pytest.mark.parametrize("index", range(len(CASES)), ids=map(str, CASES))
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1), parts=st.lists(st.integers(0, 3), min_size=EXAMPLES, max_size=EXAMPLES))
def test_merging_any_partition_equals_one_pass(index: int, seed: int, parts: list[int]) -> None:
    case, metric = CASES[index], _compiled(index)
    inputs = _inputs(case, seed, EXAMPLES)
    merged = None
    for part in set(parts):
        chosen = np.flatnonzero(np.asarray(parts) == part)
        # Each part is padded to one size, so that all share a compiled program, with an example that is real elsewhere.
        padded = np.pad(chosen, (0, EXAMPLES - len(chosen)), constant_values=EXAMPLES - 1)
        mask = (np.arange(EXAMPLES) < len(chosen)).astype(np.float32)
        seen = metric(*_taken(case, inputs, padded), mask)
        merged = seen if merged is None else metrics.merge(merged, seen)
    _assert_same(merged, metric(*inputs, np.ones(EXAMPLES, np.float32)))


@every_case
def test_a_masked_example_changes_nothing(case: Case) -> None:
    inputs = _inputs(case, 1)
    mask = np.asarray([1, 1, 0, 1, 0, 1], np.float32)
    metric, real = _metric(case), np.flatnonzero(mask)
    expected = metric(*inputs, mask)
    _assert_same(expected, metric(*_taken(case, inputs, real), mask[real]))
    if _on_host(case):
        return
    for padding in (jnp.inf, -jnp.inf, jnp.nan):
        other = jax.tree.map(lambda a, v=padding: a.at[2].set(_another(a[2], v)), inputs)
        chex.assert_trees_all_equal(_canonical(metric(*other, mask)), _canonical(expected))


@every_case
def test_an_empty_mask_accumulates_nothing(case: Case) -> None:
    seen = _metric(case)(*_inputs(case, 2), np.zeros(6, np.float32))
    assert not any(leaf.any() for leaf in jax.tree.leaves(_canonical(seen)))
    if isinstance(seen, metrics.Mean):
        assert float(metrics.average(seen)) == 0


@every_case
def test_the_order_of_the_batch_does_not_matter(case: Case) -> None:
    inputs, metric = _inputs(case, 3), _metric(case)
    mask = np.asarray([1, 0, 1, 1, 1, 1], np.float32)
    order = np.random.default_rng(3).permutation(6)
    _assert_same(metric(*_taken(case, inputs, order), mask[order]), metric(*inputs, mask))


@every_numeric
def test_bfloat16_and_float16_inputs_are_computed_in_float32(case: Case) -> None:
    inputs, metric, mask = _inputs(case, 4), _metric(case), jnp.ones(6)
    for kind in (jnp.bfloat16, jnp.float16):
        first, *others = inputs
        rounded = jax.tree.map(lambda a, k=kind: a.astype(k) if a.dtype == jnp.float32 else a, first)
        exact = jax.tree.map(lambda a, k=kind: a.astype(jnp.float32) if a.dtype == k else a, rounded)
        _assert_same(metric(rounded, *others, mask), metric(exact, *others, mask))


@every_numeric
def test_predictions_that_are_not_numbers_are_taken_and_never_look_perfect(case: Case) -> None:
    seen, metric, mask = drawn(OF_BATCHES[case.name], case.form, seed=5), _metric(case), np.ones(6, np.float32)
    first, *others = jax.tree.map(jnp.asarray, seen.inputs)
    broken = jax.tree.map(lambda a: a * jnp.nan if jnp.issubdtype(a.dtype, jnp.floating) else a, first)
    value = metric(broken, *others, mask)
    if seen.perfect is None or not isinstance(value, metrics.Mean):
        return  # a value of these is made later: `tests/metrics` has what each says of nan
    assert float(metrics.average(value)) != float(metrics.average(metric(jnp.asarray(seen.perfect), *others, mask)))


class CompiledMetrics(chex.TestCase):
    """The same accumulators without jit, with jit, on a chosen device and under pmap."""

    @chex.all_variants
    @parameterized.named_parameters((f"_{i}_{case.name}", case) for i, case in enumerate(NUMERIC))
    def test_compiled_equals_not_compiled(self, case: Case) -> None:
        inputs, mask = _inputs(case, 6), jnp.asarray([1, 1, 1, 1, 0, 1], jnp.float32)
        with jax.numpy_dtype_promotion("strict"):
            _assert_same(self.variant(_metric(case))(*inputs, mask), _metric(case)(*inputs, mask))
