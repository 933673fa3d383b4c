"""Scaling rules: what their exponents must satisfy, and what whole networks make of them."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from research import models
from research.config import Config, ModelConfig, replace
from research.errors import UserError
from research.scaling import rules, totals
from research.scaling.rules import RULES, Rule

# depth 1, 1; width 1, .5; resolution 0, 1; ... (Dollar et al. 2021, table 1): growth of params and of activations
GROWTH = {
    "depth": (1, 1),
    "width": (1, 1 / 2),
    "resolution": (0, 1),
    "depth_width": (1, 3 / 4),
    "uniform": (2 / 3, 5 / 6),
    "fast": (0.9, 0.6),
}
every_rule = pytest.mark.parametrize("name", RULES)


@every_rule
def test_a_rule_spends_all_of_the_growth_and_no_more(name: str) -> None:
    rule = RULES[name]
    assert rule.depth + 2 * rule.width + 2 * rule.resolution == pytest.approx(1)
    assert rule.params + 2 * rule.resolution == pytest.approx(1)
    assert rule.activations == pytest.approx(1 - rule.width)


@pytest.mark.parametrize("name", GROWTH)
def test_exponents_of_params_and_activations_are_those_of_the_paper(name: str) -> None:
    assert (RULES[name].params, RULES[name].activations) == pytest.approx(GROWTH[name])


def test_the_coefficients_of_efficientnet() -> None:
    """1.2 x 1.1^2 x 1.15^2 is 1.9203: at that growth depth is 1.2 times, width 1.1, resolution 1.15."""
    rule, growth = RULES["efficientnet"], 1.2 * 1.1**2 * 1.15**2
    assert growth == pytest.approx(1.92027)
    assert [growth**exponent for exponent in (rule.depth, rule.width, rule.resolution)] == pytest.approx(
        [1.2, 1.1, 1.15]
    )


@given(st.floats(1, 3), st.floats(1, 3), st.floats(1, 3))
def test_coefficients_make_a_rule_in_their_proportions(alpha: float, beta: float, gamma: float) -> None:
    if alpha * beta * gamma < 1 + 1e-6:
        return
    rule, growth = rules.of_coefficients(alpha, beta, gamma, ""), alpha * beta**2 * gamma**2
    assert [growth**e for e in (rule.depth, rule.width, rule.resolution)] == pytest.approx([alpha, beta, gamma])


@pytest.mark.parametrize("wrong", [(1, 1, 1), (0.5, 2, 2), (math.nan, 2, 2)])
def test_coefficients_that_do_not_grow_are_refused(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(UserError, match="expected 1 and more"):
        rules.of_coefficients(*wrong, "")


def test_wrong_rules_are_refused() -> None:
    with pytest.raises(UserError, match="depth \\+ 2 width \\+ 2 resolution = 1"):
        Rule(1, 1, 0, "")
    with pytest.raises(UserError, match="nearest: uniform"):
        rules.rule("uniformly")
    with pytest.raises(UserError, match="above 0"):
        rules.scale(Config(), RULES["width"], 0.0, resolution=32)


@every_rule
def test_a_whole_network_grows_by_the_exponents_within_a_tenth(name: str) -> None:
    """MobileNetV2 at 128 pixels, 8 times the multiply-adds; rounding of blocks, and stem and head, are what is left."""
    rule, counter = RULES[name], totals.Counter()
    base = Config(model=ModelConfig("mobilenet_v2"))
    base = replace(base, **{"model.channel_divisor": 1, "data.resolution": 128})

    def counted(config: Config) -> totals.Totals:
        model, side = models.create(config.model.name, **config.model.options), config.data.resolution
        return counter.totals(model, (1, side, side, 3))

    before, after = counted(base), counted(rules.scale(base, rule, 8.0, resolution=128))
    grown = {key: math.log(getattr(after, key) / getattr(before, key), 8) for key in ("macs", "params", "activations")}
    expected = {"macs": 1, "params": rule.params, "activations": rule.activations}
    assert grown == pytest.approx(expected, abs=0.15), name


def test_scaling_multiplies_what_the_config_has_already_and_leaves_the_rest() -> None:
    base = replace(Config(model=ModelConfig("mobilenet_v2")), **{"model.width_multiplier": 0.5})
    grown = rules.scale(base, RULES["width"], 4.0, resolution=96)
    assert grown.model.options["width_multiplier"] == 1.0
    assert "depth_multiplier" not in grown.model.options
    assert grown.data.resolution is None
    assert rules.scale(base, RULES["resolution"], 4.0, resolution=96).data.resolution == 192
