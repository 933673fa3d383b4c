"""Equal cost, solved: the member of a family of configs whose network costs what another does.

    found = match.solve(lambda m: replace(config, **{"model.width_multiplier": m}), target, macs, low=0.5, high=2)

Cost is counted exactly, after channels and blocks have been rounded; `totals.Counter` does it quickly, and what was
found is counted once more as a whole. Where whole blocks or pixels are too coarse to land on the target, the channels
may be trimmed by up to `TRIM`, of every member near enough; what cannot land carries its distance and a reason.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from research.config import Config
from research.errors import UserError

TOLERANCE = 0.01  # of the target: what counts as equal cost
TRIM = 0.05  # of the channels, either way: the most that is trimmed where the family itself moves in coarse steps
_CLOSE = TOLERANCE / 4  # of the target: near enough to stop
_FINE = 1e-3  # relative width of a bracket of multipliers below which nothing is left to find
_TRIES = 40
_MEMBERS = 30  # half percents of the multiplier, either way, whose members are trimmed

Family = Callable[[float], Config]
Cost = Callable[[Config], int]


@dataclass(frozen=True)
class Known:
    """What a search found: the multiplier, the trim, and the cost that it came to."""

    multiplier: float
    trim: float
    reached: int


@dataclass(frozen=True)
class Match:
    """A config and how near it came. `multiplier`: the family's; `trim`: of its channels; `reason`: why no nearer."""

    config: Config
    target: int
    reached: int
    multiplier: float
    trim: float = 1.0
    reason: str = ""

    @property
    def off(self) -> float:
        """Relative distance from the target; positive: dearer."""
        return self.reached / self.target - 1


def solve(
    family: Family,
    target: int,
    cost: Cost,
    *,
    low: float,
    high: float,
    start: float | None = None,
    trim: Callable[[Config, float], Config] | None = None,
    confirm: Cost | None = None,
    known: Known | None = None,
) -> Match:
    """The member of `family`, whose cost grows with its multiplier in [low, high], that is nearest to `target`.

    `start`: a multiplier at which the cost is near the target; None: the middle of the bounds. `trim(config, width)`:
    `config` with `width` times the channels, for families that move in coarse steps; it is used only where the family
    alone is not within `TOLERANCE`. `confirm`: the same cost by another way, asked once of what was found. `known`:
    what a search found before, which is taken where it still costs the same. Raises `UserError` where the target is
    not positive or the bounds are no interval, `RuntimeError` where `confirm` does not agree.
    """
    if target <= 0 or not 0 < low < high or not low <= (low if start is None else start) <= high:
        raise UserError(
            f"match: target {target}, multipliers {low:g} to {high:g}; expected a positive target, low below high"
        )
    if known is not None and (same := _again(known, family, target, cost, trim)) is not None:
        return same if abs(same.off) <= TOLERANCE else _explained(same, low, high, trim is not None)
    ends = _around(family, target, cost, low, high, math.sqrt(low * high) if start is None else start)
    found = min((Match(config, target, reached, at) for at, config, reached in ends), key=_distance)
    if abs(found.off) > TOLERANCE and trim is not None:
        for at, config, _ in ends:
            cut = functools.partial(trim, config)
            trimmed = _around(cut, target, cost, 1 - TRIM, 1 + TRIM, 1.0)
            found = min(
                [found, *(Match(c, target, reached, at, width) for width, c, reached in trimmed)], key=_distance
            )
        if abs(found.off) > TOLERANCE:
            found = min(found, *_trimmed(family, target, cost, low, high, ends[0][0], trim), key=_distance)
    if confirm is not None and (whole := confirm(found.config)) != found.reached:
        raise RuntimeError(f"cost of {found.config.model} is {found.reached} by parts and {whole} as a whole")
    return found if abs(found.off) <= TOLERANCE else _explained(found, low, high, trim is not None)


def _again(
    known: Known, family: Family, target: int, cost: Cost, trim: Callable[[Config, float], Config] | None
) -> Match | None:
    """What was found before, if it costs what it cost then."""
    config = family(known.multiplier)
    if known.trim != 1.0 and trim is not None:
        config = trim(config, known.trim)
    same = cost(config) == known.reached
    return Match(config, target, known.reached, known.multiplier, known.trim) if same else None


def _distance(found: Match) -> float:
    return abs(found.off)


def _explained(found: Match, low: float, high: float, trimmed: bool) -> Match:
    """With the reason why it is not nearer."""
    at_bound = min(abs(math.log(found.multiplier / bound)) for bound in (low, high)) < 1e-3
    if at_bound and found.trim in (1.0, 1 - TRIM, 1 + TRIM):
        why = f"the multiplier is at its bound, {found.multiplier:g}"
    else:
        why = "blocks, channels and pixels are whole numbers" + (
            f", and channels are trimmed by {TRIM:.0%} at most" * trimmed
        )
    reason = f"{found.off:+.1%} off the target: {why}"
    return Match(found.config, found.target, found.reached, found.multiplier, found.trim, reason)


def _trimmed(
    family: Family,
    target: int,
    cost: Cost,
    low: float,
    high: float,
    at: float,
    trim: Callable[[Config, float], Config],
) -> Iterator[Match]:
    """Members at every half percent of the multiplier from `at` on, at every half percent of trim; nearest first.

    As far as a trim can reach the target from, and until one is within `TOLERANCE`: what whole blocks, channels and
    pixels make of a multiplier and a trim follows no order that could be searched.
    """
    widths = [1 + sign * n * TRIM / 10 for n in range(1, 11) for sign in (1, -1)]
    reach = (1 + TRIM) ** 2 * (1 + TOLERANCE) * 1.02  # cost is about the square of the width
    seen: set[Config] = set()
    for n in range(_MEMBERS):
        for multiplier in dict.fromkeys((at * 1.005**n, at * 1.005**-n)):
            short = float(f"{multiplier:.6g}")
            if not low <= short <= high or (config := family(short)) in seen:
                continue
            seen.add(config)
            if not 1 / reach <= cost(config) / target <= reach:
                continue
            for width in widths:
                cut = trim(config, width)
                yield (found := Match(cut, target, cost(cut), short, width))
                if abs(found.off) <= TOLERANCE:
                    return


def _around(
    family: Family, target: int, cost: Cost, low: float, high: float, start: float
) -> list[tuple[float, Config, int]]:
    """(multiplier, config, cost) of the nearest members on either side of the target, or of one that is near enough.

    Cost is about a power of the multiplier. So the search goes out from `start`, which is near, until the target lies
    between two members (large networks take long to count), and then interpolates the logarithms, which needs few
    tries where cost is fine; where it moves in steps, an end that stays is what halving is for.
    """

    def tried(multiplier: float) -> tuple[float, Config, int]:
        short = float(f"{multiplier:.6g}")
        config = family(short)
        return short, config, cost(config)

    first = last = tried(start)
    step = 2.0
    while abs(last[2] - target) > _CLOSE * target and (last[2] < target) == (first[2] < target):
        bound = high if last[2] < target else low
        if last[0] == bound:
            return [last]
        ratio = target / last[2]
        if last is not first and last[2] != first[2]:  # the power, as the last two tries have it
            ratio **= math.log(last[0] / first[0]) / math.log(last[2] / first[2])
        ratio = min(max(ratio, 1 / step), step)
        wide = ratio * 1.02 if last[2] < target else ratio / 1.02  # beyond it, so that it is between two
        first, last = last, tried(min(max(last[0] * wide, low), high))
    below, above = sorted([first, last], key=lambda end: end[0])
    stayed = 0  # how often in turn the same end was replaced; negative: the lower
    for _ in range(_TRIES):
        near = [end for end in (below, above) if abs(end[2] - target) <= _CLOSE * target]
        if near:
            return near[:1]
        if not below[2] < target < above[2] or above[0] / below[0] - 1 < _FINE:
            break
        share = math.log(target / below[2]) / math.log(above[2] / below[2])
        share = 0.5 if abs(stayed) > 1 else min(max(share, 0.02), 0.98)
        middle = tried(math.exp((1 - share) * math.log(below[0]) + share * math.log(above[0])))
        if middle[2] <= target:
            below, stayed = middle, min(stayed, 0) - 1
        else:
            above, stayed = middle, max(stayed, 0) + 1
        if abs(stayed) > 2:
            stayed = 0
    return [below, above]
