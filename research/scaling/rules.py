"""Scaling rules: how depth, width and resolution grow when a network may cost `s` times as many multiply-adds.

A rule is three exponents: s^depth times the blocks, s^width the channels, s^resolution the pixels of a side. A network
of stages costs depth x width^2 x resolution^2, so they satisfy depth + 2 width + 2 resolution = 1. Its parameters then
grow as s^(depth + 2 width) and its activations as s^(depth + width + 2 resolution) (Dollar et al. 2021,
arXiv:2103.06877, table 1): a rule chooses between them. Stem and head do not grow so, so whole networks follow this
within about 0.1.
"""

import math
from dataclasses import dataclass

from research.config import Config, replace
from research.errors import UserError, unknown


@dataclass(frozen=True)
class Rule:
    """Exponents of the growth of multiply-adds; `summary`: one line, with the source."""

    depth: float
    width: float
    resolution: float
    summary: str

    def __post_init__(self) -> None:
        total = self.depth + 2 * self.width + 2 * self.resolution
        if min(self.depth, self.width, self.resolution) < 0 or not math.isclose(total, 1, abs_tol=1e-9):
            shown = f"depth {self.depth:g}, width {self.width:g}, resolution {self.resolution:g}"
            raise UserError(
                f"scaling rule with {shown}: expected exponents of 0 and more, depth + 2 width + 2 resolution = 1"
            )

    @property
    def params(self) -> float:
        """Exponent with which parameters grow."""
        return self.depth + 2 * self.width

    @property
    def activations(self) -> float:
        """Exponent with which activations grow."""
        return self.depth + self.width + 2 * self.resolution


def of_coefficients(alpha: float, beta: float, gamma: float, summary: str) -> Rule:
    """The rule that multiplies depth, width, resolution by these at each step (Tan and Le 2019, equation 3).

    Raises `UserError` where they are below 1 or nothing grows.
    """
    logs = [math.log(x) if x >= 1 else math.nan for x in (alpha, beta, gamma)]
    total = logs[0] + 2 * logs[1] + 2 * logs[2]
    if not total > 0:
        raise UserError(f"coefficients {alpha:g}, {beta:g}, {gamma:g}: expected 1 and more, and one above 1")
    return Rule(logs[0] / total, logs[1] / total, logs[2] / total, summary)


def fast(alpha: float, summary: str) -> Rule:
    """Dollar et al. 2021, section 4: width takes the share `alpha`, depth and resolution halves of what is left."""
    return Rule((1 - alpha) / 2, alpha / 2, (1 - alpha) / 4, summary)


RULES = {
    "depth": Rule(1, 0, 0, "more blocks alone"),
    "width": Rule(0, 1 / 2, 0, "more channels alone: MobileNet's width multiplier (Howard et al. 2017, section 3.3)"),
    "resolution": Rule(0, 0, 1 / 2, "larger images alone: MobileNet's resolution multiplier (Howard et al. 2017, 3.4)"),
    "depth_width": Rule(1 / 2, 1 / 4, 0, "blocks and channels in equal shares (Dollar et al. 2021, table 1)"),
    "depth_resolution": Rule(1 / 2, 0, 1 / 4, "blocks and pixels in equal shares"),
    "width_resolution": Rule(0, 1 / 4, 1 / 4, "channels and pixels in equal shares"),
    "uniform": Rule(1 / 3, 1 / 6, 1 / 6, "all three in equal shares (Dollar et al. 2021, table 1: dwr)"),
    "efficientnet": of_coefficients(
        1.2, 1.1, 1.15, "compound scaling with alpha, beta, gamma = 1.2, 1.1, 1.15 (Tan and Le 2019, section 4.2)"
    ),
    "fast": fast(0.8, "width takes 0.8, depth and resolution 0.1 each (Dollar et al. 2021, section 4, alpha = 0.8)"),
}


def rule(name: str) -> Rule:
    """A row of `RULES`. Raises `UserError`."""
    if name not in RULES:
        raise unknown("scaling rule", name, RULES)
    return RULES[name]


def scale(config: Config, by: Rule, factor: float, *, resolution: float) -> Config:
    """`config` with its network grown so that it costs about `factor` times as many multiply-adds.

    `resolution`: pixels of a side at factor 1, which need not be whole: 15.7 is rounded to 16 there, and to other whole
    numbers than 16 later. Works on every network whose fields are `width_multiplier` and
    `depth_multiplier`, of which the ones that `config` has already are multiplied; blocks are rounded up, channels to
    the network's `channel_divisor`, pixels to whole ones: `research.scaling.match` finds the factor that lands on a
    cost exactly. Raises `UserError`: a factor that is not positive, a network without the fields.
    """
    if not factor > 0:
        raise UserError(f"growth factor is {factor:g}; expected a number above 0")
    own = config.model.options
    multipliers = {"width_multiplier": factor**by.width, "depth_multiplier": factor**by.depth}
    changed = {f"model.{name}": own.get(name, 1.0) * times for name, times in multipliers.items() if times != 1}
    if by.resolution:
        changed["data.resolution"] = round(resolution * factor**by.resolution)
    return replace(config, **changed)
