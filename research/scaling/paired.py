"""Paired differences: two arms that ran the same seeds, compared seed by seed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Answer = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class PairedDifference:
    """`first - second` over the seeds both have: mean, and its confidence interval from Student's t (None: n < 2)."""

    differences: Mapping[int, float]
    mean: float | None
    low: float | None
    high: float | None
    confidence: float

    @property
    def n(self) -> int:
        """How many seeds both arms have."""
        return len(self.differences)

    def verdict(self, *, higher_is_better: bool) -> Answer:
        """Whether the first arm is better or worse: `cannot tell` where the interval holds 0 or there is none."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "cannot tell"
        return "better" if (self.low > 0) == higher_is_better else "worse"


def paired_difference(
    first: Mapping[int, float], second: Mapping[int, float], *, confidence: float = 0.95
) -> PairedDifference:
    """The mean of `first - second` over common seeds with its two-sided t interval; values by seed.

    Assumes roughly normal differences, and no correction for several comparisons. A seed only one arm has, or whose
    value is not finite, is left out: the caller counts those. Where all differences are equal the interval is a point.
    """
    common = sorted(seed for seed in first if seed in second)
    differences = {seed: first[seed] - second[seed] for seed in common}
    differences = {seed: value for seed, value in differences.items() if math.isfinite(value)}
    count = len(differences)
    mean = math.fsum(differences.values()) / count if count else None
    if mean is None or count < 2:
        return PairedDifference(differences, mean, None, None, confidence)
    from scipy import stats  # takes half a second to import: not for those who only list the studies

    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in differences.values()) / (count - 1))
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * spread / math.sqrt(count)
    return PairedDifference(differences, mean, mean - half, mean + half, confidence)
