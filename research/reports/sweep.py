"""The report of a sweep nobody wrote a study for: the metric over the grid, best first, and what each key does."""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from research.reports import figures, tables, wording
from research.reports.document import FINISHED, Document, Figure, Section, Table

if TYPE_CHECKING:
    import polars as pl

    from research.sweeps.results import Result


FOLDER = "folder"  # where several are merged: as one more key


def sweep_document(results: "Sequence[Result]", axes: Sequence[str] = ()) -> Document:
    """A document for runs over a grid. `axes`: the swept config keys, dotted; by default, every key that varies."""
    keys = [_recorded(key, results) for key in axes] or _varying(results)
    if any(result.folder for result in results):
        keys.append(FOLDER)  # runs of other code are not pooled
    metric = tables.primary_metric(results)
    final, best = f"eval/{metric}", f"best/{metric}"
    names = ", ".join(f"`{key}`" for key in keys) or "nothing but the seed"
    question = f"What {'do' if len(keys) > 1 else 'does'} {names} do to {wording.title(final)}?"
    title = f"Sweep over {', '.join(key.rpartition('.')[2].replace('_', ' ') for key in keys) or 'seeds'}"
    frame = tables.summary_frame(results, lambda r: _cell(r, keys) | {final: tables.number(r, final)})
    if not frame.height:
        return Document(title, question, sections=[Section("Results", "No run has finished yet.")])
    table = Table(
        "Every setting, best first", _grid(results, keys, final, best), "Mean ± standard deviation over seeds."
    )
    charts = _charts(frame, keys, final)
    return Document(title, question, sections=[Section("Results", _leader(results, keys, final), [table, *charts])])


def _recorded(key: str, results: "Sequence[Result]") -> str:
    """`model.X` on the command line, where X is the model's own field, is `model.options.X` in a record."""
    own = key.replace("model.", "model.options.", 1)
    known = {k for r in results for k in tables.flat_config(r)}
    return own if key not in known and own in known else key


def _varying(results: "Sequence[Result]") -> list[str]:
    hidden = tables.cosmetic_keys() | {"seed"}
    return [k for k in tables.varying([tables.flat_config(r) for r in results if r.config]) if k not in hidden]


def _cell(result: "Result", keys: Sequence[str]) -> dict[str, Any]:
    flat = tables.flat_config(result) | {FOLDER: result.folder or "(first)"}
    return {key: flat.get(key) for key in keys}


def _settings(results: "Sequence[Result]", keys: Sequence[str]) -> "list[tuple[dict[str, Any], list[Result]]]":
    cells: dict[str, tuple[dict[str, Any], list[Result]]] = {}
    for result in tables.ordered(r for r in results if r.config):
        setting = _cell(result, keys)
        cells.setdefault(repr(setting), (setting, []))[1].append(result)
    return list(cells.values())


def _mean(runs: "Sequence[Result]", key: str) -> float | None:
    values = [v for r in runs if r.status == FINISHED and (v := tables.number(r, key)) is not None]
    return statistics.fmean(values) if values else None


def _ranked(
    results: "Sequence[Result]", keys: Sequence[str], final: str
) -> "list[tuple[dict[str, Any], list[Result]]]":
    sign = -1 if wording.higher_is_better(final) else 1

    def rank(setting: "tuple[dict[str, Any], list[Result]]") -> tuple[bool, float]:
        mean = _mean(setting[1], final)
        return mean is None, sign * (mean or 0.0)

    return sorted(_settings(results, keys), key=rank)


def _grid(results: "Sequence[Result]", keys: Sequence[str], final: str, best: str) -> "pl.DataFrame":
    rows = []
    for setting, runs in _ranked(results, keys, final):
        done = [r for r in runs if r.status == FINISHED]
        row: dict[str, Any] = {**setting, "runs": f"{len(done)}/{len(runs)}"}
        for key in (final, best):
            row[key] = tables.spread([v for r in done if (v := tables.number(r, key)) is not None])
        row["each seed"] = [{"value": tables.number(r, final), "run": r.id, "key": final} for r in done]
        rows.append(row)
    return tables.frame(rows)


def _leader(results: "Sequence[Result]", keys: Sequence[str], final: str) -> str:
    setting, runs = _ranked(results, keys, final)[0]
    mean = _mean(runs, final)
    if mean is None or not keys:
        return ""
    where = ", ".join(
        f"`{key} = {wording.value(key, setting[key], 'g' if isinstance(setting[key], float) else '')}`" for key in keys
    )
    leader = f"Best {wording.title(final)}: {wording.value(final, mean)} at {where}."
    return f"{leader} No correction for having chosen the best of the grid."


def _charts(frame: "pl.DataFrame", keys: Sequence[str], final: str) -> list[Figure]:
    """A line for one key, a heat map for two, and one line per key (over all settings of the others) for more."""
    heading = wording.title(final)
    if len(keys) == 2:
        best: Literal["max", "min"] = "max" if wording.higher_is_better(final) else "min"
        chart = figures.heat_map(frame, keys[0], keys[1], final, best=best)
        return [Figure(f"{heading} over the grid".capitalize(), chart, "Mean over seeds; darker is better.")]
    note = "Points are runs, the line their mean, bars its 95% t-interval (3 runs or more)."
    note += " Each panel pools every setting of the other keys." if len(keys) > 1 else ""
    return [
        Figure(f"{heading} against {key}".capitalize(), figures.metric_against(frame, key, final), note) for key in keys
    ]
