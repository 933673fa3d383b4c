"""Paired differences: two arms that ran the same seeds, compared seed by seed, and many of them judged together."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Answer = Literal["better", "worse", "cannot tell"]
_PROBABILITIES = 4000


@dataclass(frozen=True)
class PairedDifference:
    """`first - second` over the seeds both have: mean, its confidence interval from Student's t, p (None: n < 2)."""

    differences: Mapping[int, float]
    mean: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None  # two-sided: of a mean at least so far from 0 where the arms are equal
    confidence: float = 0.95

    @property
    def n(self) -> int:
        """How many seeds both arms have."""
        return len(self.differences)

    def verdict(self, *, higher_is_better: bool) -> Answer:
        """Whether the first arm is better or worse by itself: `cannot tell` where p is above 1 - confidence."""
        return self.answer(self.p, 1 - self.confidence, higher_is_better=higher_is_better)

    def answer(self, p: float | None, level: float, *, higher_is_better: bool) -> Answer:
        """Better or worse where `p`, perhaps adjusted for other comparisons, is at most `level`."""
        if p is None or self.mean is None or p > level:
            return "cannot tell"
        return "better" if (self.mean > 0) == higher_is_better else "worse"


def paired_difference(
    first: Mapping[int, float], second: Mapping[int, float], *, confidence: float = 0.95
) -> PairedDifference:
    """The mean of `first - second` over common seeds with its two-sided t interval; values by seed.

    Assumes roughly normal differences; `judged` corrects for several comparisons. A seed only one arm has, or whose
    value is not finite, is left out: the caller counts those. Where all differences are equal the interval is a point,
    and p that of the sign test: errors counted on few examples are equal by chance.
    """
    common = sorted(seed for seed in first if seed in second)
    differences = {seed: first[seed] - second[seed] for seed in common}
    differences = {seed: value for seed, value in differences.items() if math.isfinite(value)}
    count = len(differences)
    mean = math.fsum(differences.values()) / count if count else None
    if mean is None or count < 2:
        return PairedDifference(differences, mean, confidence=confidence)
    from scipy import stats  # takes half a second to import: not for those who only list the studies

    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in differences.values()) / (count - 1))
    error = spread / math.sqrt(count)
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * error
    if len(set(differences.values())) == 1 or error == 0:
        p = 1.0 if mean == 0 else 2.0 ** (1 - count)
    else:
        p = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return PairedDifference(differences, mean, mean - half, mean + half, p, confidence)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values of a family of comparisons (Holm 1979, "A simple sequentially rejective ... procedure").

    Rejecting where the adjusted value is at most a level keeps the chance of any false rejection below that level. A
    comparison without a p-value has none afterwards, and counts as one of the family: it was asked.
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        adjusted[place] = largest
    return adjusted


@dataclass(frozen=True)
class Judged:
    """A paired difference as one of a family: p adjusted by `holm`, and what may be said."""

    difference: PairedDifference
    p: float | None
    answer: Answer


def judged(differences: Sequence[PairedDifference], *, higher_is_better: bool, level: float = 0.05) -> list[Judged]:
    """Each of a family of comparisons, with at most `level` chance that any *better* or *worse* is false."""
    adjusted = holm([difference.p for difference in differences])
    return [
        Judged(difference, p, difference.answer(p, level, higher_is_better=higher_is_better))
        for difference, p in zip(differences, adjusted, strict=True)
    ]


@functools.cache
def smallest_detectable(pairs: int, comparisons: int = 1, *, power: float = 0.8, level: float = 0.05) -> float:
    """The mean difference, in standard deviations of a pair's, that is found with probability `power`.

    By `pairs` seeds as the first of `comparisons` in Holm's order, which is tested at level / comparisons: no other is
    harder to reach. Infinite for fewer than two pairs. Solved from the distribution of noncentral t.
    """
    if pairs < 2:
        return math.inf
    import numpy as np
    from scipy import optimize, stats

    freedom = pairs - 1
    # The deviation of a sample, over the true one, at evenly spread probabilities: scipy's noncentral t fails far out.
    deviations = np.sqrt(stats.chi2.ppf((np.arange(_PROBABILITIES) + 0.5) / _PROBABILITIES, freedom) / freedom)
    needed = float(stats.t.ppf(1 - level / comparisons / 2, freedom)) * deviations

    def missing(effect: float) -> float:
        shift = effect * math.sqrt(pairs)
        return float((stats.norm.cdf(shift - needed) + stats.norm.cdf(-shift - needed)).mean()) - power

    high = 1.0
    while missing(high) < 0:
        high *= 2
    return float(optimize.brentq(missing, 0.0, high, xtol=1e-6))
