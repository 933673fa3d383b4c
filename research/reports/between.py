"""Folders of one study side by side: what became of the same arms, budgets and seeds under other code or settings."""

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from research.reports import comparison, tables, wording
from research.reports.document import FINISHED, Document, Section, Table
from research.values import flatten

if TYPE_CHECKING:
    from research.reports.comparison import Claim, Family
    from research.sweeps.results import Result, StudyRecord

Cell = tuple[str, str]  # arm and budget
Cells = Mapping[Cell, Mapping[int, "Result"]]  # runs by arm and budget, then by seed
DIGESTS = 16  # digits shown of a digest or a commit


def compared(document: Document, copies: "Sequence[tuple[str, StudyRecord]]") -> Document:
    """`document` with, before its own part, every later copy of its study against the first: (folder, records) each.

    Pairs are runs of the same arm, budget and seed. What is the same run in both folders (same config, code and data)
    is counted and not compared. One copy: the document as it is.
    """
    for folder, later in reversed(copies[1:]):
        families, section = _against(copies[0][0], _cells(copies[0][1]), folder, _cells(later))
        verdicts = [verdict for family in families for verdict in family.verdicts()]
        document = dataclasses.replace(
            document,
            verdicts=[*verdicts, *document.verdicts],
            sections=[section, *document.sections],
            families=[*families, *document.families],
        )
    return document


def _cells(study: "StudyRecord") -> Cells:
    cells: dict[Cell, dict[int, Result]] = {}
    for result in tables.ordered(study.results):
        cells.setdefault((result.arm, result.budget), {})[result.seed] = result
    return cells


def _against(before: str, old: Cells, after: str, new: Cells) -> "tuple[list[Family], Section]":
    """The families of claims, one for each error, and the section: `after` against `before`."""
    pairs = list(_pairs(old, new))
    changed = [(one, other) for one, other in pairs if one.id != other.id]
    families, items = [], []
    for key in _rates([result for pair in changed for result in pair]):
        family = _family(before, after, changed, key)
        families.append(family)
        items.append(_table(family, before, after))
    headings = {"before": before, "after": after}
    hidden = tables.cosmetic_keys()
    found = {
        "Config keys that differ": _differences(
            (_without(tables.flat_config(a), hidden), _without(tables.flat_config(b), hidden)) for a, b in changed
        ),
        "What else differs": _differences((flatten(a.environment), flatten(b.environment)) for a, b in changed),
    }
    items += [Table(title, tables.frame(rows, ["key"]), "", headings) for title, rows in found.items() if rows]
    text = f"{_counts(before, old, after, new, pairs)}\n\n{_code(before, after, changed)}"
    return families, Section(f"{after} against {before}", text, items)


def _pairs(old: Cells, new: Cells) -> "Iterator[tuple[Result, Result]]":
    for cell, seeds in old.items():
        for seed in sorted(seeds.keys() & new.get(cell, {}).keys()):
            yield seeds[seed], new[cell][seed]


def _rates(results: "Sequence[Result]") -> list[str]:
    """Keys of the rates that are compared, as errors: at the end, on the evaluation and the training split."""
    metric = tables.primary_metric(results)
    known = {key for result in results for key in result.summary}
    return [key for key in (f"eval/{metric}", f"eval_train/{metric}") if key in known and wording.is_rate(key)]


def _family(before: str, after: str, pairs: "Sequence[tuple[Result, Result]]", key: str) -> "Family":
    """A claim for each arm and budget, and their mean; on the first screen is the mean, and what can be told."""
    cells: dict[Cell, list[tuple[Result, Result]]] = {}
    for pair in pairs:
        cells.setdefault((pair[0].arm, pair[0].budget), []).append(pair)
    metric, versus = _error_of(key), f"{after} against {before}"
    claims: list[Claim] = []
    for (arm, budget), members in cells.items():
        first, second = (
            {run.seed: found for run in runs if math.isfinite(found := comparison.error(run, key))}
            for runs in ([b for _, b in members], [a for a, _ in members])
        )
        claims.append(comparison.Claim(f"{arm}/{budget}: {versus}", metric, first, second, len(members), False))
    if len(claims) > 1:
        first, second = (comparison.mean_over([getattr(c, side) for c in claims]) for side in ("first", "second"))
        planned = len(set.intersection(*({a.seed for a, _ in members} for members in cells.values())))
        text = f"all {len(claims)} arms and budgets, mean: {versus}"
        claims.insert(0, comparison.Claim(text, metric, first, second, planned, True))
    judged = comparison.Family(claims).judged
    return comparison.Family(
        [
            dataclasses.replace(claim, first_screen=place == 0 or one.answer != "cannot tell")
            for place, (claim, one) in enumerate(zip(claims, judged, strict=True))
        ]
    )


def _error_of(key: str) -> str:
    name = wording.title(key)
    return name.replace("accuracy", "error") if "accuracy" in name else f"1 - {name}"


def _table(family: "Family", before: str, after: str) -> Table:
    """The family's own table, with the mean of each folder over the seeds that are compared."""
    import polars as pl

    table = family.table(f"Paired differences, {after} minus {before}: {family.claims[0].metric}")
    means = {
        column: [_mean(getattr(claim, side), claim) for claim in family.claims]
        for column, side in (("before", "second"), ("after", "first"))
    }
    frame = table.frame.drop("error")
    for place, (column, values) in enumerate(means.items(), start=1):
        frame = frame.insert_column(place, pl.Series(column, values, dtype=pl.Float64))
    labels = {**table.labels, "before": f"mean, {before}", "after": f"mean, {after}"}
    return dataclasses.replace(
        table, frame=frame, labels=labels, formats={**table.formats, "before": ".4f", "after": ".4f"}
    )


def _mean(errors: Mapping[int, float], claim: "Claim") -> float | None:
    values = [errors[seed] for seed in claim.difference.differences]
    return statistics.fmean(values) if values else None


def _without(flat: Mapping[str, Any], hidden: set[str]) -> dict[str, Any]:
    return {key: value for key, value in flat.items() if key not in hidden}


def _differences(pairs: "Iterator[tuple[dict[str, Any], dict[str, Any]]]") -> list[dict[str, Any]]:
    """A row for each key and pair of values that are not the same, with how many pairs of runs have them."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for one, other in pairs:
        if one and other:  # what has not begun has no record yet
            for key in tables.varying([one, other]):
                counts[key, _shown(key, one), _shown(key, other)] += 1
    return [
        {"key": key, "before": before, "after": after, "pairs of runs": count}
        for (key, before, after), count in sorted(counts.items())
    ]


def _shown(key: str, flat: Mapping[str, Any]) -> str:
    text = wording.value(key, flat.get(key), "g" if isinstance(flat.get(key), float) else "")
    return text[:DIGESTS] if key.endswith(("digest", "fingerprint", "commit")) else text


def _counts(before: str, old: Cells, after: str, new: Cells, pairs: "Sequence[tuple[Result, Result]]") -> str:
    same = sum(one.id == other.id for one, other in pairs)
    done = sum(one.status == other.status == FINISHED for one, other in pairs if one.id != other.id)
    said = f"{len(pairs)} runs have the same arm, budget and seed in both folders: {len(pairs) - same} differ and are "
    said += f"compared ({done} finished in both), {same} are the same run (same config, code and data)."
    for folder, mine, theirs in ((before, old, new), (after, new, old)):
        alone = [f"{arm}/{budget}" for arm, budget in mine if (arm, budget) not in theirs]
        if alone:
            more = f" and {len(alone) - 6} more" if len(alone) > 6 else ""
            said += f" Only in {folder}: {', '.join(alone[:6])}{more}."
    return said


def _code(before: str, after: str, pairs: "Sequence[tuple[Result, Result]]") -> str:
    """Which code trained what is compared, and the command that shows how it differs."""
    sides = []
    for runs in ([a for a, _ in pairs], [b for _, b in pairs]):
        environments = [run.environment for run in runs if run.environment]
        codes = {str(env.get("code_digest", ""))[:DIGESTS] for env in environments} - {""}
        commits = {str(env.get("git_commit") or "")[:DIGESTS] for env in environments} - {""}
        dirty = any(env.get("git_dirty") for env in environments)
        sides.append((sorted(codes), sorted(commits), dirty))
    (old, old_commits, _), (new, new_commits, _) = sides
    if not old or not new:
        return ""
    if old == new:
        return f"The code is the same (digest {', '.join(f'`{code}`' for code in old)})."
    said = f"The code differs: {_listed(before, *sides[0])}; {_listed(after, *sides[1])}."
    if len(old_commits) == len(new_commits) == 1 and old_commits != new_commits:
        said += f" `git diff {old_commits[0]} {new_commits[0]} -- research` shows how."
    return said


def _listed(folder: str, codes: Sequence[str], commits: Sequence[str], dirty: bool) -> str:
    at = f", commit {', '.join(f'`{commit}`' for commit in commits)}" if commits else ""
    return (
        f"{folder} has {', '.join(f'`{code}`' for code in codes)}{at}{' with changes not committed' if dirty else ''}"
    )
