"""Seconds of a step predicted from what can be counted, and which count predicts them best, on one device.

The predictor is a sum of counts, each at a rate of its own (multiply-adds, activations, parameters and a constant),
none of them negative, that misses the least in relative terms. It is judged on families that it has not seen.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from research.errors import UserError
from research.scaling.fronts import rank_correlation

QUANTITIES = ("macs", "activations", "params")


@dataclass(frozen=True)
class Timing:
    """A network as it was timed: `counts` has `QUANTITIES` for what one call computes, the whole batch."""

    family: str
    name: str
    counts: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class Predictor:
    """seconds = constant + the sum of counts x seconds of each."""

    constant: float
    each: Mapping[str, float]

    def __call__(self, counts: Mapping[str, int]) -> float:
        """Predicted seconds."""
        return self.constant + sum(counts[name] * seconds for name, seconds in self.each.items())


def fit(timings: Sequence[Timing], quantities: Sequence[str] = QUANTITIES) -> Predictor:
    """The predictor with the least squares of relative errors. Raises `UserError`: fewer timings than numbers."""
    if len(timings) < len(quantities) + 1:
        raise UserError(f"a runtime predictor of {len(timings)} timings; expected {len(quantities) + 1} and more")
    import numpy as np
    from scipy import optimize

    scales = {name: max(statistics.fmean(t.counts[name] for t in timings), 1.0) for name in quantities}
    table = np.array([[1.0, *(t.counts[name] / scales[name] for name in quantities)] for t in timings])
    seconds = np.array([t.seconds for t in timings])
    found, _ = optimize.nnls(table / seconds[:, np.newaxis], np.ones(len(timings)))
    each = {name: float(value / scales[name]) for name, value in zip(quantities, found[1:], strict=True)}
    return Predictor(float(found[0]), each)


@dataclass(frozen=True)
class Judgement:
    """How well a choice of quantities predicts families held out: each network's predicted / measured seconds."""

    quantities: tuple[str, ...]
    ratios: Mapping[str, float]

    @property
    def error(self) -> float:
        """Median relative error."""
        return statistics.median(abs(ratio - 1) for ratio in self.ratios.values())


def hold_out(timings: Sequence[Timing], quantities: Sequence[str] = QUANTITIES) -> Judgement:
    """Each family predicted from all the others. Raises `UserError`: fewer than two families, or too few timings."""
    families = sorted({t.family for t in timings})
    if len(families) < 2:
        raise UserError(f"holding out families of {len(families)}; expected two and more")
    ratios: dict[str, float] = {}
    for family in families:
        predictor = fit([t for t in timings if t.family != family], quantities)
        ratios |= {t.name: predictor(t.counts) / t.seconds for t in timings if t.family == family}
    return Judgement(tuple(quantities), ratios)


def correlations(timings: Sequence[Timing]) -> dict[str, float | None]:
    """Spearman's rank correlation of each quantity with the seconds."""
    seconds = [t.seconds for t in timings]
    return {name: rank_correlation([t.counts[name] for t in timings], seconds) for name in QUANTITIES}
