"""The runtime predictor against machines that obey it."""

import numpy as np
import pytest

from research.errors import UserError
from research.scaling import runtime
from research.scaling.runtime import Timing


def timings(rates: dict[str, float], constant: float = 0.0, noise: float = 0.0) -> list[Timing]:
    """Four families of six networks, on a machine that takes so many seconds for each of a count."""
    random = np.random.default_rng(0)
    found = []
    for family in "abcd":
        for number in range(6):
            counts = {name: int(10 ** random.uniform(6, 9)) for name in runtime.QUANTITIES}
            seconds = constant + sum(counts[name] * rate for name, rate in rates.items())
            found.append(Timing(family, f"{family}{number}", counts, seconds * (1 + noise * random.standard_normal())))
    return found


def test_rates_are_recovered() -> None:
    rates = {"macs": 1e-11, "activations": 4e-10, "params": 1e-10}
    found = runtime.fit(timings(rates, constant=1e-3))
    assert found.constant == pytest.approx(1e-3, rel=1e-6)
    assert found.each == pytest.approx(rates, rel=1e-6)


def test_no_rate_is_negative() -> None:
    found = runtime.fit(timings({"macs": 1e-11}, noise=0.3))
    assert found.constant >= 0
    assert all(rate >= 0 for rate in found.each.values())


def test_families_are_foretold_without_having_been_seen() -> None:
    known = timings({"macs": 1e-11, "activations": 4e-10}, noise=0.05)
    judged = runtime.hold_out(known)
    assert judged.ratios.keys() == {t.name for t in known}
    assert judged.error < 0.1
    assert runtime.hold_out(known, ["params"]).error > 3 * judged.error


def test_the_quantity_that_the_machine_pays_for_ranks_best() -> None:
    found = runtime.correlations(timings({"activations": 1e-9}))
    assert found["activations"] == pytest.approx(1)
    assert max(abs(found["macs"] or 0), abs(found["params"] or 0)) < 0.9  # by chance alone, of 24 networks


def test_too_little_is_refused() -> None:
    with pytest.raises(UserError, match="of 3 timings; expected 4"):
        runtime.fit(timings({"macs": 1e-9})[:3])
    with pytest.raises(UserError, match="of 1; expected two"):
        runtime.hold_out(timings({"macs": 1e-9})[:6])
