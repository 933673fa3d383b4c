"""The learning rate of a config as one figure, before anything is trained."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from research import paths, storage
from research.errors import UserError, nearest
from research.reports import drawing
from research.reports.theme import theme

SUFFIXES = (".svg", ".png", ".html")
POINTS = 800  # of a curve: more than its width in pixels


def check_target(target: epath.PathLike) -> epath.Path:
    """The file to draw to. Raises `UserError` where its ending is none of `SUFFIXES` or it cannot be written."""
    if storage.is_remote(target):
        raise UserError(f"--out is {str(target)!r}; expected a file of this machine")
    path = epath.Path(target).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        close = nearest(path.suffix, SUFFIXES, count=1)
        hint = f"nearest: {close[0]}" if close else f"expected one of {', '.join(SUFFIXES)}"
        raise UserError(f"--out is {str(target)!r}, whose ending is no kind of figure; {hint}")
    if "://" not in str(target):
        paths.check_file(path, "--out")
    return path


def draw(
    target: epath.Path,
    rates: np.ndarray,
    *,
    title: str,
    subtitle: str,
    factors: Mapping[str, float],
    warmup: int,
    epochs: float | None,
) -> None:
    """Write the rate of every step, `rates` float32 `"steps"`, as the kind of figure that `target` ends in.

    A curve for each group of `factors` (label -> factor on the rate) that trains, a dashed line where `warmup` (steps)
    ends, and, where `epochs` (the length of the run) is known, a second axis above. An SVG or PNG is still; HTML is one
    file, shows values under the pointer and fetches nothing. Raises `UserError` where the file cannot be written.
    """
    import vl_convert

    chart = _chart(rates, title, subtitle, {k: v for k, v in factors.items() if v}, warmup, epochs)
    spec = drawing.specification(chart)
    kind = target.suffix.lower()
    if kind == ".html":
        page = vl_convert.vegalite_to_html(spec, vl_version=drawing.VEGA_LITE, bundle=True, config=theme("light"))
        content = page.encode()
    elif kind == ".png":
        content = vl_convert.svg_to_png(drawing.svg(spec), scale=2)
    else:
        content = drawing.svg(spec).encode()
    try:
        target.write_bytes(content)
    except OSError as error:
        raise UserError(f"--out is {str(target)!r}, which cannot be written: {error.strerror or error}") from None


def _chart(
    rates: np.ndarray, title: str, subtitle: str, factors: Mapping[str, float], warmup: int, epochs: float | None
) -> Any:
    import altair as alt

    steps = len(rates)
    kept = places(rates)
    labels = {name: f"{name} \u00d7 {factor:g}" for name, factor in factors.items()}
    rows = [
        {"step": int(at) + 1, "rate": float(rates[at]) * factor, "group": labels[name]}
        | ({} if epochs is None else {"epoch": (int(at) + 1) / steps * epochs})
        for name, factor in factors.items()
        for at in kept
    ]
    across = alt.X(
        "step:Q",
        title="step",
        scale=alt.Scale(domain=[0, steps], nice=False),
        axis=alt.Axis(tickMinStep=1, tickCount=8, format=",d"),
    )
    up = alt.Y("rate:Q", title="learning rate", axis=alt.Axis(tickCount=6, format="~g"), scale=alt.Scale(zero=True))
    plain = list(factors.values()) == [1.0]  # no groups: nothing to tell apart
    legend = None if plain else alt.Legend(title=None, symbolType="stroke", symbolOpacity=1)
    colour = alt.Color("group:N", scale=alt.Scale(domain=list(labels.values())), legend=legend)
    tooltip = [alt.Tooltip("group:N"), alt.Tooltip("step:Q", format=",d"), alt.Tooltip("rate:Q", format=".4~g")]
    tooltip += [] if epochs is None else [alt.Tooltip("epoch:Q", format=".4~g")]
    base = alt.Chart(alt.Data(values=rows)).encode(x=across, y=up, color=colour)
    layers = [base.mark_line(strokeWidth=2.25)]
    layers.append(base.mark_point(size=90, opacity=0).encode(tooltip=tooltip).properties(name=drawing.HOVER))
    if warmup:
        end = alt.Chart(alt.Data(values=[{"step": warmup}])).encode(x=across)
        layers.insert(0, end.mark_rule(strokeDash=[4, 4]))
    whole = alt.layer(*layers)
    if epochs is not None:
        whole = alt.layer(whole, _epoch_axis(epochs)).resolve_scale(x="independent")
    heading = alt.TitleParams(title, subtitle=subtitle, subtitleFontSize=13, offset=14)
    return whole.properties(width=640, height=320, title=heading)


def _epoch_axis(epochs: float) -> Any:
    """A second axis above, and nothing else."""
    import altair as alt

    above = alt.X(
        "epoch:Q",
        title="epoch",
        scale=alt.Scale(domain=[0, epochs], nice=False),
        axis=alt.Axis(orient="top", tickCount=8, format=",.4~f"),
    )
    return alt.Chart(alt.Data(values=[{"epoch": 0}, {"epoch": epochs}])).mark_point(opacity=0).encode(x=above)


def places(rates: np.ndarray) -> np.ndarray:
    """Which steps to draw, ascending: `POINTS` evenly spread, and both sides of every jump as far as there are as many.

    Every corner of a warmup or a stair is a change of the rate larger than the chart can hide.
    """
    even = np.unique(np.linspace(0, len(rates) - 1, POINTS).round().astype(np.int64))
    if len(even) == len(rates):
        return even
    change = np.abs(np.diff(rates.astype(np.float64)))
    jumps = np.argsort(-change, kind="stable")[:POINTS]
    jumps = jumps[change[jumps] > np.ptp(rates) / POINTS]
    extremes = [int(np.argmax(rates)), int(np.argmin(rates))]
    return np.unique(np.concatenate([even, jumps, jumps + 1, extremes]))
