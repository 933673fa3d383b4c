"""Claims of a study: errors of arms by seed, compared in pairs, judged together, as verdicts and as a table.

A run's budget is what its label says, `depth20`, or `depth20,learning_rate=0.05` where it is one of the tuning grid:
the setting without a name is the locked one. Every claim can be had at the locked setting and at each arm's best.
"""

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from research.reports import tables
from research.reports.document import FINISHED, Table, Verdict
from research.scaling.paired import Judged, PairedDifference, judged, paired_difference, smallest_detectable

if TYPE_CHECKING:
    from research.sweeps.results import Result

BySeed = Mapping[int, float]


def split_budget(budget: str) -> tuple[str, str]:
    """(budget, setting of the tuning grid); the locked setting is ""."""
    name, _, setting = budget.partition(",")
    return name, setting


def tuning_values(config: Mapping[str, Any]) -> dict[str, float]:
    """What a tuning grid may vary, from a run's recorded config; nothing of a run that has not begun."""
    own = config.get("optimizer", {})
    return {key: own[key] for key in ("learning_rate", "weight_decay") if key in own}


def error(result: "Result", key: str) -> float:
    """1 - the rate that the run's summary has under `key`; not a number where it did not finish or has none."""
    rate = (result.summary or {}).get(key) if result.status == FINISHED else None
    return math.nan if rate is None else 1.0 - rate


@dataclass(frozen=True)
class Best:
    """An arm at its best: errors by seed at the setting with the least mean, and whether that is at an edge."""

    errors: BySeed
    setting: str
    at_edge: bool


class Errors:
    """One error of every run: `1 - key` of its summary, by arm, budget, setting of the tuning grid, and seed."""

    def __init__(self, results: "Iterable[Result]", key: str) -> None:
        self._cells: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
        self._values: dict[tuple[str, str], dict[str, dict[str, float]]] = {}  # the numbers of each setting
        for result in results:
            arm, (budget, setting) = result.arm.partition("@")[0], split_budget(result.budget)
            of_setting = self._cells.setdefault((arm, budget), {}).setdefault(setting, {})
            self._values.setdefault((arm, budget), {}).setdefault(setting, tuning_values(result.config))
            if math.isfinite(found := error(result, key)):
                of_setting[result.seed] = found

    def locked(self, arm: str, budget: str) -> BySeed:
        """Errors at the setting that all arms share."""
        return self._cells.get((arm, budget), {}).get("", {})

    def best(self, arm: str, budget: str) -> Best:
        """Errors at the setting with the least mean over all seeds, one for all of them.

        A setting at which a seed has no error (it diverged) is not chosen. The least of several means is a little too
        small by chance, the same for arms with the same grid. Two arms whose settings matter equally are told apart
        by mistake less often than at the locked setting; where all settings of one and only one of the other are any
        good, the first is called better by mistake up to 6 times in 100: tests/reports/test_comparison.py simulates it.
        Were each seed to have the best setting of the others, an arm's errors would depend on each other, and equal
        arms be told apart too often.
        """
        settings = self._cells.get((arm, budget), {})
        if not settings:
            return Best({}, "", False)
        setting = _best(settings, sorted({seed for of_setting in settings.values() for seed in of_setting}))
        return Best(settings[setting], setting, _at_edge(setting, self._values.get((arm, budget), {})))

    @property
    def cells(self) -> list[tuple[str, str]]:
        """Every arm and budget there is a run of."""
        return list(self._cells)

    @property
    def tuned(self) -> bool:
        """Whether any arm was run at more than the locked setting."""
        return any(len(settings) > 1 for settings in self._cells.values())


def _best(settings: Mapping[str, BySeed], seeds: Sequence[int]) -> str:
    """The setting with the least mean error over these seeds, all of which it has; else the locked, or the first."""
    means = {
        setting: statistics.fmean(errors[seed] for seed in seeds)
        for setting, errors in settings.items()
        if seeds and all(seed in errors for seed in seeds)
    }
    return min(means, key=means.__getitem__) if means else "" if "" in settings else next(iter(settings))


def _at_edge(setting: str, values: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether a value of this setting is the smallest or the largest of those tried."""
    mine = values.get(setting, {})
    tried = {key: [other[key] for other in values.values() if key in other] for key in mine}
    return any(len(set(all_)) > 1 and mine[key] in (min(all_), max(all_)) for key, all_ in tried.items())


@dataclass(frozen=True)
class Claim:
    """`first` against `second` in one error, by seed; `planned`: pairs of seeds there were to be.

    `family`: which question of a study with several it belongs to; claims of one question are judged together.
    """

    text: str
    metric: str
    first: BySeed
    second: BySeed
    planned: int
    first_screen: bool = True  # a verdict, and not only a row of the table
    family: str = ""

    @functools.cached_property
    def difference(self) -> PairedDifference:
        """first - second over the seeds both have."""
        return paired_difference(self.first, self.second)


@dataclass(frozen=True)
class Family:
    """Claims that are judged together: the more of them, the more each must show (Holm's correction)."""

    claims: Sequence[Claim]

    @functools.cached_property
    def judged(self) -> list[Judged]:
        """Each claim's p-value, adjusted, and answer."""
        return judged([claim.difference for claim in self.claims], higher_is_better=False)

    def verdicts(self, where: str = "") -> list[Verdict]:
        """The first screen's claims, in words; `where`: what else they hold for, such as one of several folders."""
        return [
            Verdict(f"{claim.text}{where}: {claim.metric}", one.answer, _detail(claim, one))
            for claim, one in zip(self.claims, self.judged, strict=True)
            if claim.first_screen
        ]

    def table(self, title: str = "Paired differences") -> Table:
        """Every claim: the difference, its interval, p by Holm, the verdict, and what could have been detected."""
        rows = [self._row(claim, one) for claim, one in zip(self.claims, self.judged, strict=True)]
        formats = dict.fromkeys(("difference", "low", "high"), "+.4f") | {"p": ".2g", "detectable": ".4f"}
        labels = {"low": "95% interval from", "high": "to", "p": "p (Holm)", "detectable": "detectable"}
        note = f"""First minus second over the seeds both finished; negative favours the first. The {len(rows)} claims
            are one family: a verdict is *better* or *worse* where p, adjusted by Holm's method, is at most 0.05.
            Detectable: the true difference that this many pairs, spread as these are, would have found four times
            in five as the first of the family."""
        return Table(title, tables.frame(rows), " ".join(note.replace("*", "").split()), labels, formats)

    def _row(self, claim: Claim, one: Judged) -> dict[str, Any]:
        d = claim.difference
        spread = statistics.stdev(d.differences.values()) if d.n > 1 else None
        return {
            "comparison": claim.text,
            "error": claim.metric,
            "pairs": f"{d.n}/{claim.planned}",
            "difference": d.mean,
            "low": d.low,
            "high": d.high,
            "p": one.p,
            "verdict": one.answer,
            "detectable": None if spread is None else spread * smallest_detectable(d.n, len(self.claims)),
        }


def _detail(claim: Claim, one: Judged) -> str:
    d, pairs = claim.difference, f"{claim.difference.n} of {claim.planned} pairs of seeds"
    if d.mean is None:
        return f"{pairs} have finished"
    interval = "" if d.low is None else f", 95% interval {100 * d.low:+.2f} to {100 * (d.high or 0):+.2f}"
    p = "" if one.p is None else f"; p {one.p:.2g} (Holm)"
    return f"{100 * d.mean:+.2f} percentage points{interval}{p}; {pairs}"


def power(families: Sequence[Family], spread: float | None) -> str:
    """What a design can tell, in one line, before anything has run; "" where it compares nothing.

    `spread`: standard deviation of a paired difference in earlier runs of this kind, as an error (0.01: one point).
    """
    claims = [claim for family in families for claim in family.claims]
    if not claims:
        return ""
    pairs, most = min(claim.planned for claim in claims), max(len(family.claims) for family in families)
    effect = smallest_detectable(pairs, most)
    judged_together = f"{most} claim{'s' * (most > 1)} judged together"
    said = f"{pairs} pairs of seeds, {judged_together}: found four times in five is a difference of"
    known = "" if spread is None else f", {100 * effect * spread:.2g} percentage points at the spread of earlier runs"
    return f"{said} {effect:.2g} standard deviations of a pair's{known}"


def mean_over(cells: Sequence[BySeed]) -> dict[int, float]:
    """Mean error of each seed that all cells have."""
    complete = set.intersection(*(set(cell) for cell in cells)) if cells else set()
    return {seed: math.fsum(cell[seed] for cell in cells) / len(cells) for seed in sorted(complete)}
