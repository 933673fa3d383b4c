"""Paired differences against scipy's paired t-test, and what they may conclude."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given
from scipy import stats

from research.scaling.paired import paired_difference

VALUES = st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=2, max_size=12)


@given(VALUES, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_that_of_the_paired_t_test(pairs: list[tuple[float, float]], confidence: float) -> None:
    first, second = np.array(pairs).T
    assume(np.std(first - second) > 1e-6)  # scipy warns of lost precision, rightly
    found = paired_difference(dict(enumerate(first)), dict(enumerate(second)), confidence=confidence)
    test = stats.ttest_rel(first, second)
    low, high = test.confidence_interval(confidence)
    # Both are float64; sums of a dozen numbers below 20 and a division by a deviation above 1e-6.
    assert found.mean == pytest.approx(np.mean(first - second), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-9)


@given(VALUES)
def test_the_verdict_turns_with_the_arms_and_with_the_metric(pairs: list[tuple[float, float]]) -> None:
    first, second = (dict(enumerate(values)) for values in zip(*pairs, strict=True))
    forth, back = paired_difference(first, second), paired_difference(second, first)
    turned = {"better": "worse", "worse": "better", "cannot tell": "cannot tell"}
    assert back.verdict(higher_is_better=True) == turned[forth.verdict(higher_is_better=True)]
    assert forth.verdict(higher_is_better=False) == turned[forth.verdict(higher_is_better=True)]


def test_a_worked_example() -> None:
    # Differences 1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.302653; half width 4.302653 / sqrt(3).
    found = paired_difference({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert (found.mean, found.n) == (2.0, 3)
    assert found.low == pytest.approx(2 - 2.484138, abs=1e-5)
    assert found.high == pytest.approx(2 + 2.484138, abs=1e-5)
    assert found.verdict(higher_is_better=True) == "cannot tell"
    more = paired_difference({s: 2.0 + s % 2 for s in range(8)}, dict.fromkeys(range(8), 1.0))
    assert more.verdict(higher_is_better=True) == "better"
    assert more.verdict(higher_is_better=False) == "worse"


@pytest.mark.parametrize(
    ("first", "second", "n", "mean"),
    [
        ({}, {}, 0, None),
        ({0: 1.0}, {1: 2.0}, 0, None),
        ({0: 5.0}, {0: 1.0}, 1, 4.0),
        ({0: 5.0, 1: 9.0}, {0: 1.0, 2: 9.0}, 1, 4.0),
        ({0: 5.0, 1: math.nan}, {0: 1.0, 1: 1.0}, 1, 4.0),
    ],
)
def test_fewer_than_two_pairs_tell_nothing(
    first: dict[int, float], second: dict[int, float], n: int, mean: float | None
) -> None:
    found = paired_difference(first, second)
    assert (found.n, found.mean, found.low, found.high) == (n, mean, None, None)
    assert found.verdict(higher_is_better=True) == "cannot tell"


def test_equal_differences_have_a_point_for_an_interval() -> None:
    same = paired_difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0})
    assert (same.low, same.high) == (0.0, 0.0)
    assert same.verdict(higher_is_better=True) == "cannot tell"
    assert paired_difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0}).verdict(higher_is_better=True) == "better"
