"""Pareto fronts and rank correlation against their definitions."""

import math

import hypothesis.strategies as st
from hypothesis import given

from research.scaling.fronts import pareto_front, rank_correlation

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


@given(POINTS)
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    def beaten(point: tuple[int, int]) -> bool:
        return any(a <= point[0] and b <= point[1] and (a, b) != point for a, b in points)

    assert sorted(pareto_front(points)) == [i for i, point in enumerate(points) if not beaten(point)]


@given(POINTS)
def test_the_front_rises_in_cost_and_falls_in_error(points: list[tuple[int, int]]) -> None:
    front = [points[i] for i in pareto_front(points)]
    assert front == sorted(front)
    assert [error for _, error in front] == sorted((error for _, error in front), reverse=True)


def test_a_point_that_is_no_number_is_on_no_front() -> None:
    assert pareto_front([(1.0, math.nan), (2.0, 0.5), (math.inf, 0.1)]) == [1]


def test_rank_correlation_by_hand() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 15]) == 0.5  # 1 - 6 (0 + 1 + 1) / (3 x 8)
    assert rank_correlation([1, 1], [1, 2]) is None
