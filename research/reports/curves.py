"""Learning curves: every run, the mean of an arm's seeds, one panel per budget."""

import math
import statistics
from typing import TYPE_CHECKING, Any

from research.reports import drawing
from research.reports.comparison import split_budget
from research.reports.drawing import CLICK, HOVER
from research.reports.wording import in_order, title

if TYPE_CHECKING:
    import altair as alt
    import polars as pl

MANY_ARMS = 10  # more than the palette tells apart
# arm, budget (of the panel), run, id, kind (seed, mean, or tried: a seed at another setting of the tuning grid), last
# value, and points: position -> value
Curve = dict[str, Any]


def learning_curves(
    frame: "pl.DataFrame",
    *,
    x: str = "epoch",
    title_y: str = "value",
    budget_title: str = "",
    log: bool | None = None,
) -> "alt.TopLevelMixin | None":
    """Recorded values over training: a thin line per run, a strong one for the mean of an arm's seeds.

    `frame`: columns `x` (epoch or step), value, arm, budget, seed, run (label), id, as `tables.curve_frame` gives.
    One panel per budget; a mean is of the locked setting, and runs of a tuning grid are thinner still. Legend entries
    toggle arms, a line under the pointer names its run, dragging pans, shift and wheel zoom, a double click resets. The
    mean is drawn only where every seed has a value. `log`: None means where positive values span more than a factor 30.
    Returns None for an empty frame.
    """
    import altair as alt

    curves = _curves(frame, x)
    if not curves:
        return None
    values = [value for curve in curves for value in curve["points"].values()]
    logarithmic = min(values) > 0 and max(values) / min(values) > 30 if log is None else log and min(values) > 0
    arms = list(dict.fromkeys(curve["arm"] for curve in curves))
    budgets = in_order(curve["budget"] for curve in curves)
    base = alt.Chart(_points(curves, x)).encode(
        x=alt.X(f"{x}:Q", title=title(x), axis=alt.Axis(tickMinStep=1)),
        y=alt.Y("value:Q", title=title_y, scale=alt.Scale(type="log") if logarithmic else alt.Scale(zero=False)),
        color=_arm_colour(arms),
        detail="run:N",
    )
    layers = _layers(base, x, title_y, several=any(curve["kind"] == "mean" for curve in curves))
    if len(budgets) < 2:
        return layers.properties(width=640, height=340).transform_lookup("curve", from_=_words(curves))
    columns = 2 if len(budgets) in (2, 4) else 3
    panel = layers.properties(width=270 if columns == 3 else 420, height=220)
    header = alt.Header(labelLimit=270 if columns == 3 else 420)
    panels = panel.facet(
        alt.Facet("budget:N", sort=budgets, title=budget_title or None, header=header), columns=columns
    )
    return panels.transform_lookup("curve", from_=_words(curves))


def _layers(base: "alt.Chart", x: str, title_y: str, *, several: bool) -> Any:
    """Thin lines, strong mean lines (where there are `several` seeds), and points that appear under the pointer."""
    import altair as alt

    chosen = alt.selection_point(name="arms", fields=["arm"], bind="legend", toggle="true")
    near = alt.selection_point(name="near", on="pointerover", fields=["run"], empty=False, clear="pointerout")
    zoom = alt.selection_interval(name="zoom", bind="scales", zoom="wheel![event.shiftKey]")
    seeds = base.transform_filter("datum.kind != 'mean'")
    lines = seeds.mark_line().encode(
        strokeWidth=alt.when("datum.kind == 'tried'").then(alt.value(0.5)).otherwise(alt.value(1.25 if several else 2)),
        opacity=alt.when(near)
        .then(alt.value(1))
        .when(chosen)
        .then(alt.value(0.4 if several else 0.95))
        .otherwise(alt.value(0.04)),
    )
    means = base.transform_filter("datum.kind == 'mean'").mark_line(strokeWidth=2.75)
    means = means.encode(opacity=alt.when(chosen).then(alt.value(1)).otherwise(alt.value(0.06)))
    tooltip = [
        alt.Tooltip("id:N", title="run"),  # the page adds its label
        alt.Tooltip(f"{x}:Q", title=title(x), format=".4~g"),
        alt.Tooltip("value:Q", title=title_y, format=".5~g"),
    ]
    points = seeds.mark_point(
        size=160, cursor="pointer"
    ).encode(  # large, as nothing of them is seen until the pointer finds one
        opacity=alt.when(near).then(alt.value(1)).otherwise(alt.value(0)), tooltip=tooltip
    )
    # Vega-Lite binds the legend only where the first layer has the selection.
    first = lines.add_params(chosen).properties(name="runs")
    pointer = points.add_params(near, zoom).properties(name=HOVER)
    return alt.layer(first, *([means] if several else []), pointer)


def _points(curves: list[Curve], x: str) -> "alt.Data":
    return drawing.data(
        [
            {"curve": number, x: place, "value": _short(value)}
            for number, curve in enumerate(curves)
            for place, value in curve["points"].items()
        ]
    )


def _words(curves: list[Curve]) -> "alt.LookupData":
    """What is the same all along a curve, looked up by its number: the page would be twice as large without."""
    words = [{"curve": n} | {k: v for k, v in curve.items() if k != "points"} for n, curve in enumerate(curves)]
    return drawing.lookup(words, "curve")


def _arm_colour(arms: list[str]) -> "alt.Color":
    import altair as alt

    if len(arms) > MANY_ARMS:
        return alt.Color("last:Q", title="last value", scale=alt.Scale(scheme="viridis"))
    legend = None if len(arms) == 1 else alt.Legend(title=f"arm{CLICK}", symbolOpacity=1, symbolType="stroke")
    return alt.Color("arm:N", scale=alt.Scale(domain=arms), legend=legend)


def _curves(frame: "pl.DataFrame", x: str) -> list[Curve]:
    """A curve per run (seed or tried), then per arm and budget the mean where all of its seeds have a value."""
    runs: dict[str, Curve] = {}
    locked = {split_budget(budget)[0] for budget in set(frame["budget"]) if not split_budget(budget)[1]}
    for row in frame.iter_rows(named=True):
        if row[x] is not None and row["value"] is not None:
            budget, setting = split_budget(row["budget"])
            if budget not in locked:
                budget, setting = row["budget"], ""  # no tuning grid: a comma is only a comma
            words = {"arm": row["arm"], "budget": budget, "run": row["run"], "id": row["id"]}
            kind = "tried" if setting else "seed"
            curve = runs.setdefault(row["run"], words | {"kind": kind, "last": 0.0, "points": {}})
            curve["points"][_short(row[x])] = curve["last"] = row["value"]
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in runs.values():
        if curve["kind"] == "seed":
            groups.setdefault((curve["arm"], curve["budget"]), []).append(curve)
    means = []
    for (arm, budget), members in groups.items():
        places = [place for place in members[0]["points"] if all(place in m["points"] for m in members)]
        points = {place: statistics.fmean(m["points"][place] for m in members) for place in places}
        if len(members) > 1 and points:
            words = {"arm": arm, "budget": budget, "run": f"mean of {arm}/{budget}", "id": ""}
            means.append(words | {"kind": "mean", "last": list(points.values())[-1], "points": points})
    return [*runs.values(), *means]


def _short(number: float) -> float:
    """Six digits: more than a chart shows, and a third of the bytes."""
    return float(f"{number:.6g}") if math.isfinite(number) else number
