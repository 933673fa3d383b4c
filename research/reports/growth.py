"""What a study of growth shows: ranks at each cost, power laws, fronts of cost against error, exponents of costs."""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from research.reports import arms, comparison, figures, tables, wording
from research.reports.comparison import BySeed
from research.reports.document import Figure, Table
from research.scaling import fits, fronts
from research.scaling.rules import Rule

if TYPE_CHECKING:
    from research.sweeps.results import Result

Growth = Callable[["Result"], float]  # of multiply-adds, relative to the base
ABOUT_LAWS = """Error = a s^-b + c, s the growth of multiply-adds, by least squares over all runs of an arm, the base
    among them; 95% intervals by bootstrap over seeds. Lack of fit: p of an F-test against free means (small: it is no
    such law). Held out: what the smaller scales foretell of the largest."""
ABOUT_FRONTS = """Means over seeds at the locked setting. An arm is on a front where no other has both a lower cost and
    a lower error. Differences smaller than those of seeds decide as well as large ones: read it with the verdicts."""
ABOUT_EXPONENTS = """The slope of the logarithm of a cost over that of the multiply-adds, by least squares over the base
    and all growth, beside what the rule says of the stages alone. Stem, head and rounding make the difference."""


def mean(errors: BySeed) -> float | None:
    """Over seeds; None of none."""
    return statistics.fmean(errors.values()) if errors else None


def _error(result: "Result", metric: str) -> float:
    return comparison.error(result, arms.METRICS[metric])


def _by_growth(results: "Sequence[Result]", growth: Growth) -> "dict[str, dict[float, list[Result]]]":
    found: dict[str, dict[float, list[Result]]] = {}
    for result in tables.finished(results):
        found.setdefault(result.arm, {}).setdefault(growth(result), []).append(result)
    return found


def ranks(results: "Sequence[Result]", growth: Growth, metric: str) -> list[Table]:
    """Arms by their mean error at each growth, 1 the best, equals alike; none while nothing has finished."""
    cells = _by_growth(results, growth)
    scales = sorted({times for by_growth in cells.values() for times in by_growth})
    means = {
        times: {
            arm: statistics.fmean(errors)
            for arm, by_growth in cells.items()
            if (errors := [e for r in by_growth.get(times, ()) if math.isfinite(e := _error(r, metric))])
        }
        for times in scales
    }
    placed = {
        times: {arm: 1 + sum(other < error for other in errors.values()) for arm, error in errors.items()}
        for times, errors in means.items()
    }
    rows = []
    for arm, by_growth in cells.items():
        row: dict[str, Any] = {"arm": arm}
        for times in scales:
            errors = [e for r in by_growth.get(times, ()) if math.isfinite(e := _error(r, metric))]
            row |= {f"rank at {times}x": placed[times].get(arm), f"error at {times}x": tables.spread(errors)}
        rows.append(row)
    pairs = []
    for one, other in itertools.pairwise(scales):
        both = [arm for arm in means[one] if arm in means[other]]
        rho = fronts.rank_correlation(*([means[times][arm] for arm in both] for times in (one, other)))
        pairs += [] if rho is None else [f"{one}x and {other}x {rho:+.2f}"]
    note = "Rank 1 is the smallest mean error; whether neighbours differ is for the verdicts to say."
    note += f" Rank correlation of the arms' errors (Spearman): {', '.join(pairs)}." * bool(pairs)
    return [Table(f"Ranks by {metric}", tables.frame(rows, ["arm"]), note)] if rows else []


def laws(results: "Sequence[Result]", growth: Growth, metric: str) -> list[Table | Figure]:
    """A power law of each arm with three scales and more, as a table and as curves through the runs."""
    points = {
        arm: [(float(times), e) for times, cell in by.items() for r in cell if math.isfinite(e := _error(r, metric))]
        for arm, by in _by_growth(results, growth).items()
    }
    rows, curves = [], []
    for arm, own in points.items():
        scales = sorted({scale for scale, _ in own})
        if len(scales) < 3 or len(own) <= 3:
            continue
        fitted = fits.fit(own)
        row: dict[str, Any] = {"arm": arm}
        for letter in "abc":
            low, high = getattr(fitted, letter)
            row |= {letter: getattr(fitted.law, letter), f"{letter} from": low, f"{letter} to": high}
        row["lack of fit, p"] = fitted.lack_of_fit
        row |= _held_out(own, scales)
        rows.append(row)
        between = [scales[0] * (scales[-1] / scales[0]) ** (n / 24) for n in range(25)]
        curves += [{"arm": arm, "x": s, "error": fitted.law(s)} for s in between]
    if not rows:
        return []
    seen = [
        {"arm": r.arm, "x": growth(r), "error": _error(r, metric), "run": r.id}
        for r in tables.finished(results)
        if math.isfinite(_error(r, metric))
    ]
    chart = figures.fitted_curves(
        tables.frame(seen), tables.frame(curves), "x", "error", "arm", title_x="growth of multiply-adds", title_y=metric
    )
    formats = {f"{letter}{end}": ".3g" for letter in "abc" for end in ("", " from", " to")}
    formats |= dict.fromkeys(("mean there", "foretold from", "foretold to"), ".4f") | {"lack of fit, p": ".2g"}
    return [
        Figure(f"Power laws of {metric}", chart, "Points are runs, lines the laws."),
        Table(f"Power laws of {metric}", tables.frame(rows), formats=formats),
    ]


def _held_out(points: Sequence[fits.Point], scales: Sequence[float]) -> dict[str, Any]:
    if len(scales) < 4:
        return {}
    left = fits.held_out(points)
    row: dict[str, Any] = {"held out": f"{left.scale:g}x", "mean there": left.mean}
    return row | {"foretold from": left.foretold[0], "foretold to": left.foretold[1], "agrees": left.agrees}


def cheapest(results: "Sequence[Result]", metric: str) -> list[Table | Figure]:
    """Mean error of each arm and budget against each of its costs, with the front; and who is on which."""
    cells = {
        cell: [r for r in runs if math.isfinite(_error(r, metric))]
        for cell, runs in tables.by_arm(tables.finished(results)).items()
    }
    cells = {cell: runs for cell, runs in cells.items() if runs}
    errors = {cell: statistics.fmean(_error(r, metric) for r in runs) for cell, runs in cells.items()}
    made: list[Table | Figure] = []
    on: dict[str, set[tuple[str, str]]] = {}
    for key, of in _costs(cells).items():
        places = [cell for cell in cells if of.get(cell) is not None]
        front = fronts.pareto_front([(of[cell], errors[cell]) for cell in places])
        on[key] = {places[index] for index in front}
        rows = [
            {
                "arm": arm,
                "x": of[arm, at],
                "error": errors[arm, at],
                "run": f"{arm}/{at}",
                "front": (arm, at) in on[key],
            }
            for arm, at in places
        ]
        heading = wording.title(key)
        chart = figures.front(
            tables.frame(rows, ["arm", "x", "error", "run", "front"]), title_x=heading, title_y=metric
        )
        made.append(Figure(f"{metric.capitalize()} against {heading}", chart, "The line joins those on the front."))
    listed = [
        {"arm": arm, "budget": at, metric: errors[arm, at]}
        | {wording.title(key): (arm, at) in front for key, front in on.items()}
        for arm, at in cells
    ]
    return [*made, Table("Who is on which front", tables.frame(listed))] if listed else []


def _costs(cells: "Mapping[tuple[str, str], Sequence[Result]]") -> dict[str, dict[tuple[str, str], float]]:
    """Each cost of each arm and budget, as far as it is known: counts, and seconds of a step timed alone."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for cell, runs in cells.items():
        for key in ("macs", "params", "activations"):
            if (value := tables.number(runs[0], key)) is not None:
                found.setdefault(key, {})[cell] = value
        timed = next((r.timing for r in runs if r.timing), None)
        if timed:
            found.setdefault("step_seconds", {})[cell] = timed["step_seconds"]
    return found


def exponents(results: "Sequence[Result]", growth: Growth, rule: Callable[[str], Rule | None]) -> list[Table]:
    """How fast params and activations of each arm grow with its multiply-adds, beside what its rule says."""
    rows = []
    for arm, by_growth in _by_growth(results, growth).items():
        counts = [
            {key: tables.number(cell[0], key) for key in ("macs", "params", "activations")}
            for cell in by_growth.values()
        ]
        if len(counts) < 2 or any(not value for row in counts for value in row.values()):
            continue
        own = rule(arm)
        row: dict[str, Any] = {"arm": arm}
        for key in ("params", "activations"):
            row[key] = _slope([(math.log(c["macs"] or 1), math.log(c[key] or 1)) for c in counts])
            row[f"{key} by rule"] = None if own is None else getattr(own, key)
        rows.append(row)
    formats = {f"{key}{end}": ".2f" for key in ("params", "activations") for end in ("", " by rule")}
    labels = {"params": "exponent of parameters", "activations": "exponent of activations"}
    return [Table("Exponents of growth", tables.frame(rows), labels=labels, formats=formats)] if rows else []


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    return statistics.linear_regression(*zip(*points, strict=True)).slope if len({x for x, _ in points}) > 1 else None
