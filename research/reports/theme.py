"""The one look of every chart in a report, light for SVG files, light or dark in HTML.

Colours: Okabe and Ito's for colour-blind readers (Wong 2011, Nature Methods 8, 441), continued by Tol's "muted".
"""

from typing import Any, Literal

PALETTE_LIGHT = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#999933",
    "#332288",
    "#777777",
)
PALETTE_DARK = (
    "#4BA6E8",
    "#FF8A3D",
    "#2CC79A",
    "#E59AC4",
    "#F2B53C",
    "#8FD3FF",
    "#D8709F",
    "#C8C860",
    "#A79BFF",
    "#AAAAAA",
)
_INK = {"light": ("#1d2430", "#5b6472", "#e3e6eb"), "dark": ("#e8eaee", "#a4acb9", "#333a46")}  # text, faint text, grid


def theme(scheme: Literal["light", "dark"] = "light") -> dict[str, Any]:
    """Vega-Lite `config` of every chart: sizes in pixels, colours for a light or dark page."""
    ink, faint, grid = _INK[scheme]
    font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
    words = {"labelFont": font, "titleFont": font, "labelColor": faint, "titleColor": ink, "titleFontWeight": 500}
    return {
        "background": "#ffffff" if scheme == "light" else "transparent",
        "font": font,
        "aria": False,  # a description of every point; the figure has one of its own
        "padding": 8,
        "view": {"stroke": None, "continuousWidth": 640, "continuousHeight": 320, "discreteWidth": 640},
        "axis": words
        | {"labelFontSize": 13, "titleFontSize": 14, "titlePadding": 10, "gridColor": grid, "domainColor": faint}
        | {"tickColor": faint, "domain": False, "tickSize": 4, "labelPadding": 5, "labelOverlap": True}
        | {"labelSeparation": 6},
        "axisX": {"grid": False, "domain": True},
        "legend": words
        | {"labelFontSize": 13, "titleFontSize": 13, "orient": "top", "symbolSize": 130, "symbolStrokeWidth": 2.5}
        | {"labelLimit": 320, "labelColor": ink, "titleColor": faint, "columnPadding": 18},
        "header": words | {"labelFontSize": 14, "titleFontSize": 13, "labelColor": ink, "titleColor": faint},
        "title": {"font": font, "fontSize": 15, "color": ink, "anchor": "start"},
        "point": {"size": 64, "filled": True},
        "rule": {"color": faint},
        "range": {"category": list(PALETTE_LIGHT if scheme == "light" else PALETTE_DARK)},
    }
