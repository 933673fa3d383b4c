"""Charts any study can use: a metric against what was varied, a grid of cells, and the learning curves of `curves`.

Charts carry no colours or fonts of their own: `theme` has them.
"""

import math
import statistics
from typing import TYPE_CHECKING, Any, Literal

from research.reports import drawing
from research.reports.curves import learning_curves
from research.reports.drawing import CLICK
from research.reports.wording import in_order, title

if TYPE_CHECKING:
    import altair as alt
    import polars as pl

__all__ = ["heat_map", "interval", "learning_curves", "metric_against"]


def metric_against(
    frame: "pl.DataFrame",
    x: str,
    y: str,
    colour: str | None = None,
    *,
    title_x: str = "",
    title_y: str = "",
    title_colour: str = "",
    log_x: bool | None = None,
    log_y: bool | None = False,
) -> "alt.TopLevelMixin | None":
    """A metric against what was varied: mean line, each run's own point, and the 95% t-interval of the mean as a bar.

    Bars need 3 runs or more at a point. `frame`: one row per run with the columns `x`, `y`, optionally `colour`, `run`.
    Numbers in `x` get a number axis, text a row of names in order. `log_x`, `log_y`: None means where positive values
    span more than a factor 20. From 30 places on, runs are small points, and there are no bars.
    Returns None where no row has both values.
    """
    import altair as alt

    rows = [row for row in frame.iter_rows(named=True) if row[x] is not None and row[y] is not None]
    if not rows:
        return None
    data = [
        {"x": row[x], "y": row[y], "colour": str(row[colour]) if colour else "", "run": row.get("run")} for row in rows
    ]
    data += _mean_rows(data)
    groups = list(dict.fromkeys(row["colour"] for row in data))
    heading = title_y or title(y)
    tooltip = [alt.Tooltip("colour:N", title=title_colour or title(colour))] if colour else []
    tooltip += [alt.Tooltip("x:N", title=title_x or title(x)), alt.Tooltip("y:Q", title=heading, format=".5~g")]
    chosen = alt.selection_point(name="arms", fields=["colour"], bind="legend", toggle="true")
    shown = alt.when(chosen).then(alt.value(1)).otherwise(alt.value(0.08))
    legend = alt.Legend(title=f"{title_colour or title(colour)}{CLICK}") if colour and len(groups) > 1 else None
    crowded = len({row["x"] for row in data}) >= 30
    logarithmic = log_y if log_y is not None else _wide([row["y"] for row in data])
    scale = alt.Scale(type="log") if logarithmic else alt.Scale(zero=False)
    if logarithmic:  # which has no place for the lower end of an interval that reaches below zero
        floor = min(row["y"] for row in data)
        data = [row | ({"low": max(row["low"], floor)} if "low" in row else {}) for row in data]
    base = alt.Chart(drawing.data(data)).encode(
        x=_position(data, title_x or title(x), log_x),
        color=alt.Color("colour:N", scale=alt.Scale(domain=groups), legend=legend),
        opacity=shown,
    )
    height = alt.Y("y:Q", title=heading, scale=scale)
    means = base.transform_filter("datum.kind == 'mean'")
    shape = alt.Shape("colour:N", scale=alt.Scale(domain=groups), legend=legend)
    line = means.mark_line(strokeWidth=2.5).encode(y=height)
    bars = (
        means.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.75)
        .encode(y=alt.Y("low:Q", title=heading), y2="high:Q")
    )
    middles = means.mark_point(size=80, opacity=1).encode(
        y=height, shape=shape, tooltip=[*tooltip, alt.Tooltip("runs:Q")]
    )
    points = base.transform_filter("datum.kind == 'run'").mark_point(
        size=9 if crowded else 42, filled=crowded, strokeWidth=1.5, cursor="pointer"
    )
    points = points.encode(y=height, shape=shape, tooltip=[*tooltip, alt.Tooltip("run:N", title="run")])
    # Vega warns of a scale over no rows.
    drawn = [bars] if any("low" in row for row in data) and not crowded else []
    # Vega-Lite binds the legend only where the first layer has the selection.
    first = line.add_params(chosen).properties(name="means")
    return alt.layer(first, *drawn, points, *([] if crowded else [middles])).properties(width=640, height=360)


def _wide(values: list[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > 20


def _position(data: list[dict[str, Any]], heading: str, log: bool | None) -> "alt.X":
    import altair as alt

    places = {row["x"] for row in data}
    if not all(isinstance(place, int | float) and not isinstance(place, bool) for place in places):
        names = in_order(str(place) for place in places)
        return alt.X("x:O", sort=names, title=heading, axis=alt.Axis(labelAngle=0), scale=alt.Scale(paddingOuter=0.25))
    numbers = sorted(places)
    spread = log if log is not None else _wide(numbers)
    scale = alt.Scale(type="log", nice=False, padding=18) if spread else alt.Scale(zero=False, nice=False, padding=18)
    ticks: Any = numbers if len(numbers) <= 8 else alt.Undefined
    shape = ".4~s" if numbers[-1] >= 1e5 else ",.6~g"  # 40.5M multiply-adds, but 0.03 and not 30m
    return alt.X("x:Q", title=heading, scale=scale, axis=alt.Axis(values=ticks, format=shape))


def _mean_rows(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean of each (x, colour), with its 95% t-interval from 3 runs on; marks the given rows as runs."""
    groups: dict[tuple[Any, str], list[float]] = {}
    for row in data:
        row["kind"] = "run"
        groups.setdefault((row["x"], row["colour"]), []).append(row["y"])
    means = []
    for (place, name), values in groups.items():
        row = {"x": place, "y": statistics.fmean(values), "colour": name, "runs": len(values), "kind": "mean"}
        if len(values) >= 3:
            half = interval(values)
            row |= {"low": row["y"] - half, "high": row["y"] + half}
        means.append(row)
    return means


def interval(values: list[float]) -> float:
    """Half the width of the 95% t-interval of the mean of `values` (two or more)."""
    from scipy import stats

    return float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def heat_map(
    frame: "pl.DataFrame", x: str, y: str, value: str, *, title_value: str = "", best: Literal["max", "min"] = "max"
) -> "alt.TopLevelMixin | None":
    """The mean of `value` in every cell of a grid of `x` and `y`, written in the cell; darker is better."""
    import altair as alt

    cells: dict[tuple[Any, Any], list[float]] = {}
    for row in frame.iter_rows(named=True):
        if row[value] is not None:
            cells.setdefault((row[x], row[y]), []).append(row[value])
    if not cells:
        return None
    means = {place: statistics.fmean(values) for place, values in cells.items()}
    middle = (min(means.values()) + max(means.values())) / 2
    data: list[dict[str, Any]] = [
        {"x": _name(a), "y": _name(b), "v": mean, "runs": len(cells[a, b])}
        | {"dark": mean > middle if best == "max" else mean < middle}
        for (a, b), mean in means.items()
    ]
    heading = title_value or title(value)
    base = alt.Chart(drawing.data(data)).encode(
        x=alt.X("x:O", title=title(x), sort=in_order(r["x"] for r in data), axis=alt.Axis(labelAngle=0, domain=False)),
        y=alt.Y("y:O", title=title(y), sort=in_order(r["y"] for r in data)[::-1], axis=alt.Axis(grid=False)),
        tooltip=[
            alt.Tooltip("x:O", title=title(x)),
            alt.Tooltip("y:O", title=title(y)),
            alt.Tooltip("v:Q", title=heading),
            "runs:Q",
        ],
    )
    scale = alt.Scale(scheme="blues", reverse=best == "min")
    boxes = base.mark_rect(cornerRadius=3).encode(color=alt.Color("v:Q", title=heading, scale=scale, legend=None))
    words = base.mark_text(fontSize=13).encode(
        text=alt.Text("v:Q", format=".4~g"),
        color=alt.when("datum.dark").then(alt.value("#ffffff")).otherwise(alt.value("#1d2430")),
    )
    rows = len({row["y"] for row in data})
    return alt.layer(boxes, words).properties(width=640, height=max(160, 56 * rows))


def _name(item: Any) -> str:
    return format(item, "g") if isinstance(item, float) else str(item)


def fitted_curves(
    points: "pl.DataFrame",
    curves: "pl.DataFrame",
    x: str,
    y: str,
    colour: str,
    *,
    title_x: str = "",
    title_y: str = "",
) -> "alt.TopLevelMixin | None":
    """Runs as points and a law through them as a line, for each group; `x` is logarithmic."""
    import altair as alt

    kept = [
        {"x": row[x], "y": row[y], "colour": str(row[colour]), "run": row.get("run"), "kind": kind}
        for kind, frame in (("law", curves), ("run", points))
        for row in frame.iter_rows(named=True)
    ]
    if not kept:
        return None
    groups = list(dict.fromkeys(row["colour"] for row in kept))
    chosen = alt.selection_point(name="arms", fields=["colour"], bind="legend", toggle="true")
    heading = title_y or title(y)
    base = alt.Chart(drawing.data(kept)).encode(
        x=_position([row for row in kept if row["kind"] == "run"] or kept, title_x or title(x), True),
        y=alt.Y("y:Q", title=heading, scale=alt.Scale(zero=False)),
        color=alt.Color("colour:N", scale=alt.Scale(domain=groups), legend=alt.Legend(title=f"{title(colour)}{CLICK}")),
        opacity=alt.when(chosen).then(alt.value(1)).otherwise(alt.value(0.08)),
    )
    tooltip = [alt.Tooltip("colour:N", title=title(colour)), alt.Tooltip("x:Q", title=title_x or title(x))]
    tooltip += [alt.Tooltip("y:Q", title=heading, format=".5~g"), alt.Tooltip("run:N", title="run")]
    line = base.transform_filter("datum.kind == 'law'").mark_line(strokeWidth=2)
    marks = base.transform_filter("datum.kind == 'run'").mark_point(size=42, filled=False, strokeWidth=1.5)
    return alt.layer(line.add_params(chosen).properties(name="laws"), marks.encode(tooltip=tooltip)).properties(
        width=640, height=360
    )


def front(frame: "pl.DataFrame", *, title_x: str, title_y: str) -> "alt.TopLevelMixin | None":
    """Cost against error: a point for each row of `arm`, `x`, `error`, `run`, a line through those on the `front`."""
    import altair as alt

    data = [
        {"x": r["x"], "y": r["error"], "colour": str(r["arm"]), "run": r["run"], "front": r["front"]}
        for r in frame.iter_rows(named=True)
    ]
    if not data:
        return None
    groups = list(dict.fromkeys(row["colour"] for row in data))
    chosen = alt.selection_point(name="arms", fields=["colour"], bind="legend", toggle="true")
    place = _position(data, title_x, None)
    height = alt.Y("y:Q", title=title_y, scale=alt.Scale(zero=False))
    base = alt.Chart(drawing.data(data)).encode(x=place, y=height)
    line = base.transform_filter("datum.front").mark_line(
        strokeWidth=1.5, strokeDash=[5, 4], interpolate="step-after", opacity=0.7
    )
    legend = alt.Legend(title=f"arm{CLICK}") if len(groups) > 1 else None
    marks = base.mark_point(size=70, strokeWidth=1.75).encode(
        color=alt.Color("colour:N", scale=alt.Scale(domain=groups), legend=legend),
        shape=alt.Shape("colour:N", scale=alt.Scale(domain=groups), legend=legend),
        opacity=alt.when(chosen).then(alt.value(1)).otherwise(alt.value(0.08)),
        tooltip=[
            alt.Tooltip("run:N", title="arm"),
            alt.Tooltip("x:Q", title=title_x, format=".5~g"),
            alt.Tooltip("y:Q", title=title_y, format=".5~g"),
        ],
    )
    return alt.layer(marks.add_params(chosen).properties(name="arms"), line).properties(width=640, height=360)
