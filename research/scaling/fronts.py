"""Pareto fronts of cost against error, and how well one quantity ranks another."""

import math
from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, error) that no other point beats, by rising cost.

    A point is beaten by one that is no worse in either and better in one; of equal points each is kept. Points that are
    not finite are on no front.
    """
    finite = [i for i, point in enumerate(points) if all(math.isfinite(value) for value in point)]
    order = sorted(finite, key=lambda i: (points[i], i))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] < points[front[-1]][1] or points[i] == points[front[-1]]:
            front.append(i)
    return front


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties with their mean rank; None where either has fewer than two different values."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    from scipy import stats

    return float(stats.spearmanr(first, second).statistic)
