"""Equal cost is solved: by search on lattices of every coarseness, and for networks."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from research import models
from research.config import Config, ModelConfig, replace
from research.errors import UserError
from research.scaling import complexity, match, rules, totals

COUNTER = totals.Counter()
BASE = replace(Config(model=ModelConfig("resnet20")), **{"data.resolution": 28, "model.channel_divisor": 1})


def cost(config: Config) -> int:
    side = config.data.resolution
    return COUNTER.totals(models.create(config.model.name, **config.model.options), (1, side, side, 3)).macs


@given(st.integers(1, 40), st.floats(0.05, 50), st.floats(0.2, 3))
def test_the_nearest_of_a_lattice_is_found(steps: int, target: float, power: float) -> None:
    """A family that moves in whole steps: no member is nearer than the one that is found."""

    def family(multiplier: float) -> Config:
        return replace(Config(), seed=round(steps * multiplier))

    def price(config: Config) -> int:
        return round(1e6 * (0.01 + config.seed / steps) ** power)

    wanted = round(1e6 * target**power)
    found = match.solve(family, wanted, price, low=0.05, high=50)
    nearest = min(
        (price(replace(Config(), seed=n)) for n in range(round(0.05 * steps), 50 * steps + 1)),
        key=lambda c: abs(c - wanted),
    )
    assert abs(found.reached - wanted) <= max(abs(nearest - wanted), match.TOLERANCE / 4 * wanted)
    assert bool(found.reason) == (abs(found.off) > match.TOLERANCE)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 3.7])
def test_a_width_lands_within_a_percent(factor: float) -> None:
    target = round(factor * cost(BASE))
    found = match.solve(lambda m: replace(BASE, **{"model.width_multiplier": m}), target, cost, low=0.2, high=4)
    assert abs(found.off) <= match.TOLERANCE
    assert not found.reason
    side = found.config.data.resolution
    whole = complexity.count(models.create("resnet20", **found.config.model.options), (1, side, side, 3))
    assert whole.macs == found.reached


@pytest.mark.parametrize("name", rules.RULES)
def test_every_rule_lands_within_a_percent_with_a_trim_of_five(name: str) -> None:
    target = 3 * cost(BASE)

    def family(factor: float) -> Config:
        return rules.scale(BASE, rules.RULES[name], factor, resolution=28)

    def trim(config: Config, width: float) -> Config:
        return replace(config, **{"model.width_multiplier": config.model.options.get("width_multiplier", 1.0) * width})

    found = match.solve(family, target, cost, low=1, high=9, trim=trim)
    assert abs(found.off) <= match.TOLERANCE, found.reason
    assert abs(found.trim - 1) <= match.TRIM + 1e-9


def test_a_member_further_off_is_trimmed_where_those_beside_the_target_cannot_be() -> None:
    """Whole channels: 10 and 11 blocks jump over the target when they are trimmed, 12 blocks meet it."""
    prices = {10: (900, 1000, 1200), 11: (900, 1100, 1300), 12: (1052, 1180, 1400)}

    def family(multiplier: float) -> Config:
        return replace(Config(), seed=min(12, max(10, round(multiplier))))

    def trim(config: Config, width: float) -> Config:
        return replace(config, **{"model.width_multiplier": width})

    def price(config: Config) -> int:
        width = config.model.options.get("width_multiplier", 1.0)
        narrow, plain, wide = prices[config.seed]
        return narrow if width <= 0.96 else wide if width >= 1.04 else plain

    found = match.solve(family, 1050, price, low=9, high=13, trim=trim)
    assert (found.reached, found.config.seed, found.reason) == (1052, 12, "")
    assert 1 - match.TRIM <= found.trim <= 0.96


def test_what_cannot_land_says_how_near_it_came_and_why() -> None:
    """Depth alone moves in whole blocks: one to three of them cannot be 2.5 times as dear."""
    prices = {1: 1000, 2: 2000, 3: 3000}

    def family(multiplier: float) -> Config:
        return replace(Config(), seed=round(multiplier))

    found = match.solve(family, 2480, lambda config: prices[config.seed], low=1, high=3)
    assert found.reached == 2000
    assert "-19.4% off the target: blocks, channels and pixels are whole numbers" in found.reason
    bound = match.solve(family, 9000, lambda config: prices[config.seed], low=1, high=3)
    assert bound.reached == 3000
    assert "the multiplier is at its bound, 3" in bound.reason


def test_nonsense_is_refused() -> None:
    for target, low, high in ((0, 1, 2), (5, 2, 2), (5, 0, 1), (5, 3, 2)):
        with pytest.raises(UserError, match="expected a positive target"):
            match.solve(lambda m: Config(), target, lambda c: 1, low=low, high=high)
    assert math.isclose(match.solve(lambda m: Config(), 5, lambda c: 5, low=1, high=2).off, 0)
