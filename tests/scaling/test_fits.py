"""Power laws against laws that were planted: they are recovered, and intervals cover them as often as they say."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import optimize

from research.errors import UserError
from research.scaling import fits
from research.scaling.fits import PowerLaw

SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)
LAWS = st.builds(PowerLaw, st.floats(0.02, 1), st.floats(0.1, 2), st.floats(0, 0.3))


@given(LAWS, st.sampled_from([SCALES, (1.0, 3.0, 10.0, 30.0), (1e6, 2e6, 4e6, 9e6)]))
def test_a_law_without_noise_is_recovered(law: PowerLaw, scales: tuple[float, ...]) -> None:
    found = fits.power_law([(s, law(s)) for s in scales])
    # Exponents are searched to 0.075% (a 400-point grid over 0.01 to 4, 40 points to each of its steps).
    assert found.b == pytest.approx(law.b, rel=2e-3)
    reached = [found(s) - law(s) for s in (scales[0], scales[-1] * 2)]
    assert reached == pytest.approx([0, 0], abs=1e-3 * (law(scales[0]) - law.c) + 1e-9)


@settings(max_examples=20)
@given(LAWS, st.integers(0, 1000))
def test_no_other_law_has_smaller_squares(law: PowerLaw, seed: int) -> None:
    """Against scipy's bounded least squares, begun at the law that made the points."""
    noise = np.random.default_rng(seed).normal(0, 0.01, 15)
    points = [(s, law(s) + float(noise[3 * i + j])) for i, s in enumerate(SCALES) for j in range(3)]
    found = fits.power_law(points)

    def misses(numbers: np.ndarray) -> np.ndarray:
        return np.array([PowerLaw(*numbers)(s) - e for s, e in points])

    begun = [law.a, law.b, max(law.c, 1e-9)]
    best = optimize.least_squares(
        misses, begun, bounds=([0, fits.SLOWEST, 0], [np.inf, fits.FASTEST, np.inf]), xtol=1e-12
    )
    ours = math.fsum((found(s) - e) ** 2 for s, e in points)
    assert ours <= 2 * best.cost * (1 + 1e-4)


def planted(law: PowerLaw, spread: float, seeds: int, seed: int) -> list[tuple[float, float]]:
    noise = np.random.default_rng(seed).normal(0, spread, (len(SCALES), seeds))
    return [(s, law(s) + float(e)) for s, row in zip(SCALES, noise, strict=True) for e in row]


def test_intervals_cover_what_was_planted() -> None:
    """95% of 400 simulated studies, give or take 3.3 points: three standard errors of such a share."""
    law, inside = PowerLaw(0.3, 0.6, 0.1), {"a": 0, "b": 0, "c": 0, "law": 0}
    for seed in range(400):
        found = fits.fit(planted(law, 0.005, 5, seed), draws=400, seed=seed)
        for name in "abc":
            low, high = getattr(found, name)
            inside[name] += low <= getattr(law, name) <= high
        low, high = found.interval(8.0)
        inside["law"] += low <= law(8.0) <= high
    shares = {name: count / 400 for name, count in inside.items()}
    assert shares == pytest.approx(dict.fromkeys(shares, 0.95), abs=0.033)


def test_a_scale_held_out_is_foretold_as_often_as_said() -> None:
    law, inside = PowerLaw(0.3, 0.6, 0.1), 0
    for seed in range(300):
        found = fits.held_out(planted(law, 0.005, 5, seed))
        assert found.scale == 16
        inside += found.agrees
    assert inside / 300 == pytest.approx(0.95, abs=0.038)


def test_what_is_no_power_law_is_told() -> None:
    points = planted(PowerLaw(0.3, 0.6, 0.1), 0.002, 5, 0)
    found = fits.fit(points, draws=200)
    assert found.lack_of_fit is not None
    assert found.lack_of_fit > 0.05
    bent = [(s, e + (0.05 if s in (2.0, 8.0) else 0)) for s, e in points]
    assert (fits.fit(bent, draws=200).lack_of_fit or 1) < 1e-6


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(1, 0.5), (2, 0.4)], "of 2 scales"),
        ([(1, 0.5), (2, math.nan), (3, 1)], "finite errors"),
        ([(0, 0.5), (2, 0.4), (3, 0.1)], "positive scales"),
        ([], "positive scales"),
        ([(1, 0.5), (2, 0.4), (3, 0.1)], "of 3 runs has no interval"),
    ],
)
def test_too_little_is_refused(points: list[tuple[float, float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fits.fit(points)
