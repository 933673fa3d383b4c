"""Power laws with an asymptote, error = a s^-b + c, fitted to runs at several scales; intervals by bootstrap.

For a given b the law is linear in a and c, so least squares is a search over b alone (variable projection: Golub and
Pereyra 1973), without starting values and without a local minimum to be caught in. All errors count alike: seeds are
taken to spread equally at every scale. What the interval covers is chance in the seeds; whether the law is the right
one is another question, which `Fit.lack_of_fit` and a scale held out (`held_out`) answer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from research.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Point = tuple[float, float]  # scale, error
Interval = tuple[float, float]
SLOWEST, FASTEST = 0.01, 4.0  # exponents b that are considered
_EXPONENTS = 400
DRAWS = 2000


@dataclass(frozen=True)
class PowerLaw:
    """error = a s^-b + c, with a and c at least 0."""

    a: float
    b: float
    c: float

    def __call__(self, scale: float) -> float:
        """The error at a scale."""
        return self.a * scale**-self.b + self.c


@dataclass(frozen=True)
class Fit:
    """A law, the intervals of its numbers, and how it met what it was fitted to.

    `spread`: standard deviation of a run about its scale's mean (about the law, of one run a scale). `lack_of_fit`: p
    of an F-test of the law against free means at each scale: small where it is not such a law; None of one run a scale,
    or of three scales, which any law meets.
    """

    law: PowerLaw
    a: Interval
    b: Interval
    c: Interval
    spread: float
    lack_of_fit: float | None
    draws: tuple[PowerLaw, ...]
    confidence: float

    def interval(self, scale: float) -> Interval:
        """Interval of the law's error at a scale."""
        return _quantiles([law(scale) for law in self.draws], self.confidence)


def power_law(points: Sequence[Point]) -> PowerLaw:
    """The law with the least squares of errors. Raises `UserError`: fewer than three different positive scales."""
    import numpy as np

    scales, errors, _ = _arrays(points)
    return _laws(scales, errors[np.newaxis])[0]


def fit(points: Sequence[Point], *, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0) -> Fit:
    """The law and its bootstrap intervals: errors drawn anew about it, as far from it as seeds are from their mean.

    Residuals are pooled over scales and stretched by what estimating the means took out of them. Raises `UserError` as
    `power_law` does, and where there are not more runs than the law has numbers.
    """
    import numpy as np

    scales, errors, cells = _arrays(points)
    count, groups = len(errors), int(cells.max()) + 1
    if count <= 3:
        raise UserError(f"a power law of {count} runs has no interval; expected 4 and more")
    law = _laws(scales, errors[np.newaxis])[0]
    predicted = law.a * scales**-law.b + law.c
    means = np.bincount(cells, errors) / np.bincount(cells)
    freedom = count - groups if count > groups else count - 3
    residuals = errors - (means[cells] if count > groups else predicted)
    within = float((residuals**2).sum())
    stretched = residuals * math.sqrt(count / freedom)
    random = np.random.default_rng(seed)
    drawn = predicted + random.choice(stretched, (draws, count)) * _heavier(random, freedom, draws)
    laws = _laws(scales, drawn)
    lack = None
    if count > groups > 3 and within > 0:
        from scipy import stats

        missed = float(((errors - predicted) ** 2).sum()) - within
        ratio = (missed / (groups - 3)) / (within / (count - groups))
        lack = float(stats.f.sf(ratio, groups - 3, count - groups))
    a, b, c = (_quantiles([getattr(one, name) for one in laws], confidence) for name in "abc")
    return Fit(law, a, b, c, math.sqrt(within / freedom), lack, tuple(laws), confidence)


@dataclass(frozen=True)
class HeldOut:
    """The largest scale, kept from the fit: the mean error of its runs, and the interval foretold for it."""

    scale: float
    mean: float
    foretold: Interval

    @property
    def agrees(self) -> bool:
        """Whether the law of the smaller scales foretold it."""
        return self.foretold[0] <= self.mean <= self.foretold[1]


def held_out(points: Sequence[Point], *, confidence: float = 0.95) -> HeldOut:
    """What the law of all smaller scales says of the runs at the largest.

    The interval is of the means that can be joined to the smaller scales without the best law missing all of them by
    more than chance (an F-test of one mean): percentiles of a bootstrap cover too seldom beyond the scales that were
    fitted. Raises `UserError` as `fit` does, for the scales without the largest.
    """
    import numpy as np
    from scipy import stats

    largest = max((scale for scale, _ in points), default=0.0)
    kept = [point for point in points if point[0] < largest]
    left = [error for scale, error in points if scale == largest]
    found = fit(kept, draws=1)
    scales, errors, _ = _arrays(kept)
    freedom = len(kept) - len(set(scales.tolist())) or len(kept) - 3
    allowed = found.spread**2 * float(stats.f.ppf(confidence, 1, freedom))
    alone = float(_least(scales / largest, errors[np.newaxis])[0])
    together = np.concatenate([scales, np.full(len(left), largest)])

    def missed(means: "np.ndarray") -> "np.ndarray":
        """What each mean, joined, adds to the least squares."""
        rows = np.concatenate([np.tile(errors, (len(means), 1)), np.tile(means[:, np.newaxis], len(left))], 1)
        return _least(together / largest, rows) - alone

    middle = found.law(largest)
    below, above = (_edge(lambda x: missed(middle - x) - allowed), _edge(lambda x: missed(middle + x) - allowed))
    return HeldOut(largest, math.fsum(left) / len(left), (middle - below, middle + above))


def _edge(excess: "Callable[[np.ndarray], np.ndarray]") -> float:
    """How far from 0 a function that grows with the distance is still at most 0, to a thousandth; at most 1000."""
    import numpy as np

    high = 1e-9
    while excess(np.array([high]))[0] <= 0 and high < 1e3:
        high *= 2
    low = 0.0
    for _ in range(2):  # a row of distances at a time: one call each
        tried = np.linspace(low, high, 41)
        inside = excess(tried) <= 0
        last = int(np.flatnonzero(inside)[-1]) if inside.any() else 0
        low, high = float(tried[last]), float(tried[min(last + 1, 40)])
    return low


def _arrays(points: Sequence[Point]) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
    """Scales, errors, and which scale each run is of (0 for the smallest)."""
    import numpy as np

    if (
        not all(math.isfinite(value) for point in points for value in point)
        or min((p[0] for p in points), default=0) <= 0
    ):
        raise UserError("a power law needs positive scales and finite errors")
    scales, errors = np.array([p[0] for p in points], float), np.array([p[1] for p in points], float)
    different, cells = np.unique(scales, return_inverse=True)
    if len(different) < 3:
        raise UserError(f"a power law of {len(different)} scales; expected 3 and more")
    return scales, errors, cells


def _laws(scales: "np.ndarray", errors: "np.ndarray") -> list[PowerLaw]:
    """The best law of each row of `errors`."""
    import numpy as np

    reference = math.exp(float(np.log(scales).mean()))
    relative = scales / reference
    best = _exponents(relative, errors)
    a, c = _linear(relative, errors, best[:, np.newaxis])
    return [
        PowerLaw(float(one * reference**b), float(b), float(two))
        for one, b, two in zip(a[:, 0], best, c[:, 0], strict=True)
    ]


def _exponents(scales: "np.ndarray", errors: "np.ndarray") -> "np.ndarray":
    """The best exponent of each row of `errors`: of a grid, then of finer ones about the best, to 1e-4 of itself."""
    import numpy as np

    grid = np.geomspace(SLOWEST, FASTEST, _EXPONENTS)
    best = grid[_squares(scales, errors, grid[np.newaxis]).argmin(1)]
    ratio = grid[1] / grid[0]
    for _ in range(2):
        finer = best[:, np.newaxis] * np.geomspace(1 / ratio, ratio, 25)
        best = finer[np.arange(len(errors)), _squares(scales, errors, finer).argmin(1)]
        ratio **= 1 / 12
    return best


def _linear(scales: "np.ndarray", errors: "np.ndarray", exponents: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """The best a and c, neither negative, for errors "rows runs" and exponents "rows n" or "1 n"; each "rows n"."""
    import numpy as np

    powers = scales ** -exponents[..., np.newaxis]  # rows n runs
    mean, centred = powers.mean(-1), powers - powers.mean(-1, keepdims=True)
    a = np.einsum("rnk,rk->rn", np.broadcast_to(centred, (len(errors), *centred.shape[1:])), errors) / (centred**2).sum(
        -1
    )
    c = errors.mean(-1, keepdims=True) - a * mean
    through_zero = np.einsum("rnk,rk->rn", np.broadcast_to(powers, (len(errors), *powers.shape[1:])), errors) / (
        powers**2
    ).sum(-1)
    a, c = np.where(c < 0, through_zero, a), np.maximum(c, 0)
    return np.maximum(a, 0), np.where(a < 0, errors.mean(-1, keepdims=True), c)


def _least(scales: "np.ndarray", errors: "np.ndarray") -> "np.ndarray":
    """Sum of squares that the best law leaves of each row of `errors`."""
    return _squares(scales, errors, _exponents(scales, errors)[:, None])[:, 0]


def _squares(scales: "np.ndarray", errors: "np.ndarray", exponents: "np.ndarray") -> "np.ndarray":
    """Sums of squares that the best a and c leave, "rows n"."""
    import numpy as np

    found = []
    for start in range(0, len(errors), 64):  # a block of rows at a time: rows x exponents x runs numbers
        rows = errors[start : start + 64]
        of_rows = exponents if len(exponents) == 1 else exponents[start : start + 64]
        a, c = _linear(scales, rows, of_rows)
        powers = scales ** -of_rows[..., np.newaxis]
        found.append(((a[..., np.newaxis] * powers + c[..., np.newaxis] - rows[:, np.newaxis]) ** 2).sum(-1))
    return np.concatenate(found)


def _heavier(random: Any, freedom: int, draws: int) -> Any:
    """Factors "draws 1" that give drawn residuals the tails of a spread that was itself estimated: t, not normal."""
    import numpy as np

    return np.sqrt(freedom / random.chisquare(freedom, (draws, 1)))


def _quantiles(values: Sequence[float], confidence: float) -> Interval:
    import numpy as np

    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
