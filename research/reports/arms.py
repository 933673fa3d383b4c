"""What the reports of studies share: arms at budgets, what becomes of their errors, claims that are judged together.

A study says what its arms and budgets mean; from its results this makes groups that may be compared, families of
claims at the locked setting and at each arm's best, tables of arms and settings, and figures of errors.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from research.reports import comparison, figures, tables, wording
from research.reports.comparison import BySeed, Claim, Errors, Family, split_budget
from research.reports.document import FINISHED, Document, Figure, Section, Table, Verdict
from research.scaling import runtime
from research.scaling.runtime import QUANTITIES, Timing
from research.sweeps.results import count

if TYPE_CHECKING:
    from research.sweeps.results import Result

TRAIN, TEST = "training error", "test error"
METRICS = {TRAIN: "eval_train/top1", TEST: "eval/top1"}  # of classification: what is claimed -> 1 - this key
LOCKED, BEST = "locked setting", "each arm's best"

Cell = tuple[str, str]  # arm, budget
Cells = Callable[[str, str], BySeed]  # arm, budget -> errors by seed
Claims = Callable[[str, Cells], Sequence[Claim]]  # metric, its errors -> what is claimed of them
Question = tuple[str, str, str]  # metric, setting, name of the family
Judged = Mapping[Question, Family]  # the claims judged together
GroupClaims = Callable[["Sequence[Result]", str, Cells], Sequence[Claim]]
Sections = Callable[["Sequence[Result]", Judged], Sequence[Section]]


def name(result: "Result") -> str:
    """The arm, without the folder that it is from where several were merged."""
    return result.arm.partition("@")[0]


def budget(result: "Result") -> str:
    """The budget, without the setting of the tuning grid."""
    return split_budget(result.budget)[0]


def setting(result: "Result") -> str:
    """The setting of the tuning grid; "": the locked one."""
    return split_budget(result.budget)[1]


def locked(results: "Iterable[Result]") -> "list[Result]":
    """The runs at the setting that all arms share."""
    return [r for r in results if not setting(r)]


def groups(results: "Sequence[Result]") -> "dict[str, list[Result]]":
    """Results that may be compared with each other: one folder (of several merged), one platform and precision.

    One group, without a title, is the rule. Runs that did not start have no platform and count in the first group.
    """
    found: dict[str, list[Result]] = {}
    for result in results:
        folder = result.arm.partition("@")[2]
        found.setdefault(", ".join(filter(None, [folder, result.conditions])), []).append(result)
    if len(found) > 1 and "" in found:
        unstarted = found.pop("")
        next(iter(found.values())).extend(unstarted)
    return {"": list(results)} if len(found) < 2 else found


def document(
    title: str, question: str, results: "Sequence[Result]", claims: GroupClaims, sections: Sections
) -> Document:
    """The report of a study: what it claims of each group of results, and the sections it makes of that group."""
    answers: list[Verdict] = []
    parts: list[Section] = []
    judged_together: list[Family] = []
    for heading, group in groups(results).items():
        where = f" ({heading})" if heading else ""
        judged = families(group, functools.partial(claims, group))
        judged_together += judged.values()
        answers += verdicts(judged, where)
        parts += [dataclasses.replace(one, title=f"{one.title}{where}") for one in sections(group, judged)]
    return Document(title, question, answers, parts, judged_together)


def families(results: "Sequence[Result]", claims: Claims) -> dict[Question, Family]:
    """The claims on each error, at the locked setting and, where there is a tuning grid, at each arm's best."""
    errors = {metric: Errors(results, key) for metric, key in METRICS.items()}
    claimed = {(metric, LOCKED): claims(metric, own.locked) for metric, own in errors.items()}
    for metric, own in errors.items():
        if own.tuned:
            best = {cell: own.best(*cell).errors for cell in own.cells}
            claimed[metric, BEST] = claims(metric, functools.partial(_of, best))
    return {
        (metric, at, name): Family([claim for claim in made if claim.family == name])
        for (metric, at), made in claimed.items()
        for name in dict.fromkeys(claim.family for claim in made)
    }


def _of(cells: "Mapping[tuple[str, str], BySeed]", arm: str, at: str) -> BySeed:
    return cells.get((arm, at), {})


def verdicts(judged: Judged, where: str = "") -> list[Verdict]:
    """The first screen's, each with the setting it holds for where there are several; `where`: the group, or ""."""
    tuned = any(at == BEST for _, at, _ in judged)
    return [
        verdict
        for (_, at, _), family in judged.items()
        for verdict in family.verdicts(f" ({at}){where}" if tuned else where)
    ]


def difference_tables(judged: Judged, name: str = "") -> list[Table]:
    """The claims of every family of this name."""
    return [
        family.table(f"Paired differences: {metric}, {at}")
        for (metric, at, own), family in judged.items()
        if own == name
    ]


def states(results: "Sequence[Result]") -> str:
    """How many runs have ended how, and what that means for the numbers."""
    found = ", ".join(f"{n} {state}" for state, n in count(results).items() if n) or "none planned"
    text = f"""Runs: {found}. Only finished runs have an error; the others are listed, and pairs they break are left
        out of the differences. Error is measured at the end of the run, on the whole test set and, without
        augmentation, on the training examples."""
    older = sorted({r.accepted_code[:16] for r in results if r.accepted_code})
    if older:
        text += (
            f"\n\nResults of older code were accepted (`--accept-code`): {', '.join(f'`{code}`' for code in older)}."
        )
    shared = _shared(results)
    if shared:
        text += f"\n\nArms that are one network share its runs: {'; '.join(shared)}."
    return text


def _shared(results: "Sequence[Result]") -> list[str]:
    """Arms and budgets that the same runs belong to, a text for each network that has several."""
    names: dict[str, dict[str, None]] = {}
    for r in results:
        names.setdefault(r.id, {})[f"{r.arm} {budget(r)}"] = None
    return list(dict.fromkeys(" = ".join(of_run) for of_run in names.values() if len(of_run) > 1))


def table(
    results: "Sequence[Result]",
    columns: Callable[[str, str], Mapping[str, Any]],
    *,
    note: str = "",
    title: str = "Arms",
) -> Table:
    """A row for each arm, budget and setting: exact costs, mean errors, seconds; `columns(arm, budget)`: the first."""
    rows: list[dict[str, Any]] = []
    tuned = any(setting(r) for r in results)
    for (arm, labelled), cell in tables.by_arm(results).items():
        done = [r for r in cell if r.status == FINISHED]
        at, tried = split_budget(labelled)
        row: dict[str, Any] = {
            **columns(arm, at),
            **({"setting": tried or "locked"} if tuned else {}),
            "finished": f"{len(done)}/{len(cell)}",
            "failed": sum(r.status == "failed" for r in cell),
        }
        for key in ("params", "macs", "activations"):
            row[key] = tables.same_or_mean(tables.number(r, key) for r in done)
        for metric, key in METRICS.items():
            row[metric] = tables.spread([e for r in done if math.isfinite(e := comparison.error(r, key))])
        row["train_seconds"] = tables.spread([s for r in done if (s := tables.number(r, "train_seconds")) is not None])
        rows.append(row)
    whole = " ".join(filter(None, ["Mean ± standard deviation over seeds.", note]))
    return Table(title, tables.frame(rows, list(rows[0])[:2] if rows else ["arm", "budget"]), whole)


def best_settings(results: "Sequence[Result]", metric: str = TEST) -> Table | None:
    """Each arm's best setting of the tuning grid, and whether it is at an edge of the grid; None without a grid."""
    errors = Errors(results, METRICS[metric])
    if not errors.tuned:
        return None
    rows = []
    for arm, at in errors.cells:
        best = errors.best(arm, at)
        row: dict[str, Any] = {"arm": arm, "budget": at, "setting": best.setting or "locked"}
        row |= {metric: tables.spread(list(best.errors.values())), "at an edge": best.at_edge}
        rows.append(row)
    edges = sum(row["at an edge"] is True for row in rows)
    note = f"""The setting with the least mean {metric} over all seeds; the least of several means is a little too small
        by chance. Of {len(rows)} arms {edges} have their best at an edge of the grid, so that a wider one might have
        done better."""
    return Table("Each arm's best setting", tables.frame(rows), " ".join(note.split()))


def error_figure(
    results: "Iterable[Result]",
    metric: str,
    x: "Callable[[Result], Any]",
    *,
    title_x: str,
    title: str = "",
    log_x: bool | None = None,
) -> Figure:
    """An error of finished runs against what was varied, a line for each arm; an empty figure while there is none."""
    found = [(r, comparison.error(r, METRICS[metric])) for r in tables.finished(results)]
    rows = [{"arm": r.arm, "x": x(r), "error": error, "run": r.id} for r, error in found if math.isfinite(error)]
    frame = tables.frame(rows, ["arm", "x", "error", "run"])
    chart = figures.metric_against(frame, "x", "error", "arm", title_x=title_x, title_y=metric, log_x=log_x)
    note = "Points are runs, lines their means, bars 95% intervals of the mean (Student's t over seeds)."
    heading = title or f"{metric.capitalize()} against {title_x.partition(' (')[0]}"
    return Figure(heading, chart, note if rows else "No run has finished yet.")


def probes(results: "Sequence[Result]", names: Sequence[str], *, at: Callable[["Result"], Any], what: str) -> Section:
    """What the probes found in the runs for which `at` is largest, before and after training; `what`: of that value."""
    from research.reports import probed

    largest = max((at(r) for r in results), default=0)
    chosen = [r for r in results if at(r) == largest]
    known = [one for one in names if any(one in r.config.get("probes", {}).get("names", ()) for r in chosen)]
    made = [probed.figure(chosen, one, when) for one in known for when in ("first", "last")]
    shown = [figure for figure in made if "block" not in figure.title.lower() or "after" in figure.title]
    text = f"{what.format(largest)}, the locked setting; on training examples without augmentation."
    return Section("Inside the networks", text if shown else "No run has been probed yet.", shown)


def clock(results: "Sequence[Result]", reference: Callable[[str, str], Cell], family: Callable[[str], str]) -> Section:
    """Which savings survive on the clock, and what foretells the seconds of a step.

    `reference`: what an arm at a budget is compared with; `family`: of an arm, what is held out together.
    """
    timed = {(r.arm, r.budget): r.timing for r in tables.ordered(locked(results)) if r.timing}
    if not timed:
        text = "No step has been timed yet: `python launch.py bench --workdir DIR` does that, when nothing else runs."
        return Section("On the clock", text)
    rows = []
    for (arm, at), own in timed.items():
        own_name, separator, folder = arm.partition("@")
        compared, where = reference(own_name, at)
        other = timed.get((f"{compared}{separator}{folder}", where))
        row: dict[str, Any] = {"arm": arm, "budget": at}
        row |= {key: own[key] for key in ("step_seconds", "compile_seconds", "memory_bytes")}
        for key in ("macs", "activations", "step_seconds"):
            row[f"{key} ratio"] = None if other is None else own[key] / other[key]
        rows.append(row)
    formats = {"step_seconds": ".4f"} | {f"{key} ratio": ".3f" for key in ("macs", "activations", "step_seconds")}
    note = "Ratios are to the arm's reference. Of one training step, alone on the machine, by `launch.py bench`."
    items: list[Table | Figure] = [Table("Steps on the clock", tables.frame(rows), note, formats=formats)]
    timings = [
        Timing(family(arm), f"{arm}/{at}", _of_a_step(own), own["step_seconds"]) for (arm, at), own in timed.items()
    ]
    foretold = _foretold(timings)
    return Section("On the clock", "", [*items, foretold] if foretold else items)


def _of_a_step(timing: Mapping[str, Any]) -> dict[str, int]:
    """Counts of a whole batch; parameters are the same for every example."""
    return {q: timing[q] * (1 if q == "params" else timing["batch_size"]) for q in QUANTITIES}


def _foretold(timings: Sequence[Timing]) -> Table | None:
    """How well counts foretell seconds of families that were held out; None of too few."""
    families = {t.family for t in timings}
    if len(families) < 2:
        return None
    correlation, rows = runtime.correlations(timings), []
    for chosen in (*((one,) for one in QUANTITIES), QUANTITIES):
        smallest = min(sum(t.family != family for t in timings) for family in families)
        if smallest > len(chosen):
            judged = runtime.hold_out(timings, chosen)
            row: dict[str, Any] = {"seconds from": ", ".join(map(wording.title, chosen))}
            row |= {"rank correlation": correlation[chosen[0]] if len(chosen) == 1 else None}
            row |= {"median error, held out": judged.error}
            rows.append(row)
    note = f"""A constant and a rate for each count, none negative, with the least relative squares, fitted without a
        family and judged on it, for each of {len(families)} families in turn ({len(timings)} networks). Rank
        correlation is Spearman's, over all of them."""
    formats = {"rank correlation": ".2f", "median error, held out": ".1%"}
    return Table("What foretells the seconds of a step", tables.frame(rows), " ".join(note.split()), formats=formats)
