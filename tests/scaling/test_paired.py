"""Paired differences against scipy's paired t-test, and what they may conclude."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given
from scipy import stats

from research.scaling.paired import holm, judged, paired_difference, smallest_detectable

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
    better = {seed: 2.0 + seed for seed in range(6)}
    # Three differences of one and the same size are no wonder where errors are counted on few examples: 2 / 2^3.
    three = paired_difference({s: better[s] for s in range(3)}, {s: s + 1.0 for s in range(3)})
    assert (three.p, three.verdict(higher_is_better=True)) == (0.25, "cannot tell")
    six = paired_difference(better, {s: s + 1.0 for s in range(6)})
    assert (six.p, six.verdict(higher_is_better=True)) == (2 / 2**6, "better")


@given(VALUES)
def test_p_is_that_of_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    first, second = np.array(pairs).T
    assume(np.std(first - second) > 1e-6)
    found = paired_difference(dict(enumerate(first)), dict(enumerate(second)))
    assert found.p == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-6, abs=1e-12)
    assert found.low is not None
    assert found.high is not None
    assert (found.p <= 0.05) == (not found.low <= 0 <= found.high) or found.p == pytest.approx(0.05)


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(P_VALUES, st.floats(0.001, 0.3))
def test_holm_rejects_step_by_step(p_values: list[float], level: float) -> None:
    """The procedure as Holm 1979 has it: the smallest at level / m, the next at level / (m - 1), until one fails."""
    rejected = set()
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] * (len(p_values) - rank) > level:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(p_values)) if p is not None and p <= level} == rejected


@given(P_VALUES)
def test_holm_is_between_one_comparison_and_bonferroni(p_values: list[float]) -> None:
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert adjusted is not None
        assert p <= adjusted <= min(1.0, p * len(p_values))


def test_holm_by_hand_and_a_comparison_that_could_not_be_made() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01, None, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06)]


SIMULATED = 2000


def _study(effects: list[float], pairs: int, seed: int) -> list[str]:
    """The answers of a study whose arms differ from a common control by `effects` standard deviations."""
    random = np.random.default_rng(seed)
    control = random.standard_normal(pairs)
    arms = [{s: float(control[s] + effect + random.standard_normal()) for s in range(pairs)} for effect in effects]
    differences = [paired_difference(arm, dict(enumerate(control))) for arm in arms]
    return [one.answer for one in judged(differences, higher_is_better=True)]


@pytest.mark.parametrize("pairs", [3, 5])
def test_studies_without_an_effect_seldom_find_one(pairs: int) -> None:
    """Of 2,000 studies of 6 comparisons each, at most 5% say anything false, give or take three standard errors."""
    false = sum(set(_study([0.0] * 6, pairs, seed)) != {"cannot tell"} for seed in range(SIMULATED))
    assert false / SIMULATED <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / SIMULATED)


def test_a_planted_effect_is_found_as_often_as_was_said_before() -> None:
    """The first of a family of one is found with the stated power; and never called worse but by 5% / 2 of chance."""
    effect = smallest_detectable(5, power=0.8)
    random = np.random.default_rng(0)
    answers = []
    for _ in range(SIMULATED):
        difference = random.normal(effect, 1, 5)
        found = paired_difference(dict(enumerate(difference)), dict.fromkeys(range(5), 0.0))
        answers.append(found.verdict(higher_is_better=True))
    assert answers.count("better") / SIMULATED == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / SIMULATED))
    assert answers.count("worse") == 0


def test_intervals_cover_at_their_confidence() -> None:
    random, inside = np.random.default_rng(0), 0
    for _ in range(SIMULATED):
        found = paired_difference(dict(enumerate(random.normal(0.3, 1, 4))), dict.fromkeys(range(4), 0.0))
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 0.3 <= found.high
    assert inside / SIMULATED == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / SIMULATED))


def test_what_a_design_can_detect() -> None:
    """Cohen's table for a paired t-test: 0.9 standard deviations need some 12 pairs, at 80% power and a level of 5%."""
    assert smallest_detectable(12) == pytest.approx(0.89, abs=0.02)
    assert smallest_detectable(1) == math.inf
    assert smallest_detectable(3, 1) < smallest_detectable(3, 10)
    assert [smallest_detectable(n) for n in (3, 5, 9)] == sorted(
        (smallest_detectable(n) for n in (3, 5, 9)), reverse=True
    )
