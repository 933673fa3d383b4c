"""Run records as polars frames: one row per run, per arm, per recorded value; what is shared and what differs."""

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from research.reports.document import FINISHED
from research.reports.wording import natural
from research.values import annotations, flatten

if TYPE_CHECKING:
    import polars as pl

    from research.sweeps.results import Result, StudyRecord

Arm = tuple[str, str]  # arm and budget: the runs that differ in their seed only


def frame(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> "pl.DataFrame":
    """Rows as a frame whose columns are `columns`, then the other keys in order of first appearance.

    Numbers of one column may mix whole and real; a column that mixes numbers with anything else is JSON text.
    """
    import polars as pl

    names = list(dict.fromkeys([*columns, *(key for row in rows for key in row)]))
    return pl.DataFrame([_series(name, [row.get(name) for row in rows]) for name in names])


def _series(name: str, values: list[Any]) -> "pl.Series":
    import polars as pl

    kinds = {type(value) for value in values if value is not None}
    if dict in kinds and kinds <= {int, float, dict}:  # `same_or_mean`: one number in some rows, a spread in others
        values = [{"mean": float(v), "deviation": None} if isinstance(v, int | float) else v for v in values]
    elif kinds == {int, float}:
        return pl.Series(name, [None if v is None else float(v) for v in values], dtype=pl.Float64)
    elif len(kinds) > 1:
        return pl.Series(name, [None if v is None else json.dumps(v, sort_keys=True) for v in values], dtype=pl.String)
    if not kinds:
        return pl.Series(name, values, dtype=pl.Null)
    return pl.Series(name, values, strict=False)


def ordered(results: "Iterable[Result]") -> "list[Result]":
    """Runs by arm (in order of first appearance: the study's own), budget, seed, then id."""
    results = list(results)
    arms = {arm: i for i, arm in enumerate(dict.fromkeys(r.arm for r in results))}
    return sorted(results, key=lambda r: (arms[r.arm], natural(r.budget), r.seed, r.id))


def finished(results: "Iterable[Result]") -> "list[Result]":
    """The runs that reached their end, in the report's order."""
    return [r for r in ordered(results) if r.status == FINISHED]


def by_arm(results: "Iterable[Result]") -> "dict[Arm, list[Result]]":
    """Runs grouped into arm and budget, both in the report's order."""
    groups: dict[Arm, list[Result]] = {}
    for result in ordered(results):
        groups.setdefault((result.arm, result.budget), []).append(result)
    return groups


def primary_metric(results: "Iterable[Result]") -> str:
    """The name (`top1`) of the metric by which the runs chose their best state; `top1` where none has finished."""
    names = {key[5:] for r in results for key in (r.summary or {}) if key.startswith("best/")} - {"step", "epoch"}
    return "top1" if not names or "top1" in names else min(names)


def flat_config(result: "Result") -> dict[str, Any]:
    """The run's config as dotted keys; lists as JSON text."""
    flat = flatten(result.config)
    return {k: json.dumps(v) if isinstance(v, list | tuple) else v for k, v in flat.items()}


def cosmetic_keys() -> set[str]:
    """Dotted config keys that cannot change any number of a run."""
    from research.config import Config

    def walk(cls: Any, prefix: str) -> Iterable[str]:
        for field in dataclasses.fields(cls):
            kind = annotations(cls)[field.name]
            if field.metadata.get("cosmetic"):
                yield f"{prefix}{field.name}"
            elif dataclasses.is_dataclass(kind):
                yield from walk(kind, f"{prefix}{field.name}.")

    return set(walk(Config, ""))


def varying(flats: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys whose value is not the same (or not there) in every mapping, sorted."""
    keys = sorted({key for flat in flats for key in flat})
    return [k for k in keys if len({json.dumps(flat.get(k, "(none)"), sort_keys=True) for flat in flats}) > 1]


def run_path(result: "Result", workdir: Any) -> str:
    """The run's folder relative to `workdir` where both are on one file system, else as it is."""
    import os.path

    path, base = str(result.path), str(workdir)
    if "://" in path or "://" in base:
        return path.removeprefix(f"{base.rstrip('/')}/")
    return PurePath(os.path.relpath(os.path.abspath(path), os.path.abspath(base))).as_posix()


def results_frame(studies: "Sequence[StudyRecord]", workdir: Any) -> "pl.DataFrame":
    """One row per run of every study: who it is, every config key that varies, every scalar and list of its summary.

    A config key that is already a column (`seed`) is left out where it says the same and is `config.KEY` otherwise.
    """
    runs = [(study, result) for study in studies for result in ordered(study.results)]
    flats = [flat_config(result) for _, result in runs]
    changing = varying(flats)
    rows = []
    for (study, result), flat in zip(runs, flats, strict=True):
        who: dict[str, Any] = {"study": study.name, "id": result.id, "label": result.label, "arm": result.arm}
        who |= {"budget": result.budget, "seed": result.seed, "status": result.status}
        who["path"] = run_path(result, workdir)
        rows.append((who, {k: flat.get(k) for k in changing}, flatten(result.summary or {})))
    taken = {k for k in changing if rows and k in rows[0][0]}
    same = {k for k in taken if all(config[k] == who[k] for who, config, _ in rows)}
    named = {k: f"config.{k}" if k in taken else k for k in changing if k not in same}
    return frame(
        [
            who
            | {named[k]: v for k, v in config.items() if k in named}
            | {k: v for k, v in summary.items() if k != "status"}
            for who, config, summary in rows
        ],
        columns=["study", "id", "label", "arm", "budget", "seed", "status", "path", *named.values()],
    )


def number(result: "Result", key: str) -> float | None:
    """A number of the run's summary; None where it is not there or not a finite number."""
    value = (result.summary or {}).get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def spread(values: Sequence[float]) -> dict[str, float | None] | None:
    """Mean and standard deviation (n - 1; None for one value) of a cell; None for no value."""
    if not values:
        return None
    return {"mean": statistics.fmean(values), "deviation": statistics.stdev(values) if len(values) > 1 else None}


def arm_frame(results: "Sequence[Result]", keys: Sequence[str], *, each: str) -> "pl.DataFrame":
    """One row per arm and budget: finished of planned runs, mean ± deviation of `keys`, and `each` run's own number."""
    rows = []
    for (arm, budget), runs in by_arm(results).items():
        done = [r for r in runs if r.status == FINISHED]
        row: dict[str, Any] = {"arm": arm, "budget": budget, "runs": f"{len(done)}/{len(runs)}"}
        for key in keys:
            row[key] = spread([v for r in done if (v := number(r, key)) is not None])
        row["each seed"] = [{"value": number(r, each), "run": r.id, "key": each} for r in done]
        rows.append(row)
    return frame(rows)


def same_or_mean(values: Iterable[float | None]) -> int | float | dict[str, float | None] | None:
    """The value that all have in common (None is not counted), else their mean and deviation."""
    known = [v for v in values if v is not None]
    return known[0] if len(set(known)) == 1 else spread(known)


def cost_frame(results: "Sequence[Result]") -> "pl.DataFrame":
    """What each arm costs: exact counts, measured seconds and the median rate of images per second, over its seeds."""
    rows: list[dict[str, Any]] = []
    for (arm, budget), runs in by_arm(results).items():
        done = [r for r in runs if r.status == FINISHED]
        row: dict[str, Any] = {"arm": arm, "budget": budget}
        for key in ("params", "macs", "activations"):
            row[key] = same_or_mean(number(r, key) for r in done)
        for key in ("train_seconds", "compile_seconds"):
            row[key] = spread([v for r in done if (v := number(r, key)) is not None])
        target = next((r.target_macs for r in runs if r.target_macs is not None), None)
        if target is not None:
            row |= {"target_macs": target, "reason": next((r.reason for r in runs if r.reason), None)}
        rates = [m["images_per_second"] for r in done for m in r.metrics if m.get("images_per_second") is not None]
        row["images_per_second"] = statistics.median(rates) if rates else None
        rows.append(row)
    return frame(rows)


LEAST_POINTS = 12  # of a curve, however many there are


def curve_frame(results: "Sequence[Result]", key: str, *, most: int = 4000) -> "pl.DataFrame":
    """Recorded values of `key`: epoch, step, value, arm, budget, seed, run (label) and id.

    At most about `most` rows, or `LEAST_POINTS` of each run where that is more.
    Long records are thinned to every n-th, the last kept; n is the same for every run, so that seeds stay aligned.
    """
    curves = [(r, _points(r.metrics, key)) for r in ordered(results)]
    total = sum(len(points) for _, points in curves)
    stride = max(1, math.ceil(total / max(most, LEAST_POINTS * len(curves))))
    rows = [
        {"epoch": m.get("epoch"), "step": m.get("step"), "value": float(m[key]), "arm": r.arm, "budget": r.budget}
        | {"seed": r.seed, "run": r.label, "id": r.id}
        for r, points in curves
        for i, m in enumerate(points)
        if i % stride == 0 or i == len(points) - 1
    ]
    return frame(rows, columns=["epoch", "step", "value", "arm", "budget", "seed", "run", "id"])


def _points(metrics: Iterable[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    return [m for m in metrics if isinstance(m.get(key), int | float) and math.isfinite(m[key])]


def summary_frame(results: "Sequence[Result]", pick: "Callable[[Result], Mapping[str, Any]]") -> "pl.DataFrame":
    """One row per finished run: arm, budget, seed, run (id), and what `pick` takes from it; for charts and studies."""
    return frame(
        [{"arm": r.arm, "budget": r.budget, "seed": r.seed, "run": r.id, **pick(r)} for r in finished(results)]
    )


def parquet(frame: "pl.DataFrame") -> bytes:
    """A frame as the bytes of a Parquet file."""
    import io

    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def csv(frame: "pl.DataFrame") -> bytes:
    """A frame as CSV: lists as JSON, nothing as an empty field, numbers with all their digits.

    Text that a spreadsheet would compute (it begins with = + - @ or a tab) has an apostrophe before it, as OWASP's
    "CSV Injection" advises: names come from studies and data sets of others. The Parquet file has it as it is.
    """
    import csv as writing
    import io

    buffer = io.StringIO()
    rows = writing.writer(buffer, lineterminator="\n")
    rows.writerow([_field(name) for name in frame.columns])
    rows.writerows([_field(value) for value in row] for row in frame.iter_rows())
    return buffer.getvalue().encode()


def _field(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, list | dict) else value
