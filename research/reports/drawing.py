"""Charts turned into what is written: a Vega-Lite object for the browser, an SVG document for everywhere else."""

import json
import re
from typing import TYPE_CHECKING, Any

from research.reports.theme import theme

if TYPE_CHECKING:
    import altair as alt

VEGA_LITE = "6.4"  # the grammar altair 6 writes and vl-convert bundles
CLICK = " (click to choose)"  # in the title of a legend that can be clicked; left out of SVG files
HOVER = "hover"  # name of a layer that is only there for the pointer, and left out of SVG files


def specification(chart: "alt.TopLevelMixin") -> dict[str, Any]:
    """The chart as a Vega-Lite object, the same for the same chart whatever was drawn before it in this process."""
    import altair as alt

    with alt.data_transformers.enable("default", max_rows=None):
        spec = chart.to_dict(validate=False)
    spec.pop("config", None)  # the report's theme is the only one
    spec.pop("$schema", None)
    datasets = spec.pop("datasets", None)
    numbered: dict[str, str] = {}  # altair counts the views and parameters of a process: count them from here

    def again(match: re.Match[str]) -> str:
        return numbered.setdefault(match[0], f"{match[1]}_{len(numbered) + 1}")

    spec = json.loads(re.sub(r"\b(view|param)_(?:[0-9a-f]{16}_)?\d+\b", again, json.dumps(spec)))
    return spec | ({"datasets": datasets} if datasets else {})


def svg(spec: dict[str, Any]) -> str:
    """A chart's specification drawn as a stand-alone SVG document, in the light theme."""
    import vl_convert

    drawn = vl_convert.vegalite_to_svg(_still(spec), vl_version=VEGA_LITE, config=theme("light"))
    numbered: dict[str, str] = {}  # Vega counts the clips and gradients of a process
    return re.sub(r"\b(clip|gradient_?)\d+\b", lambda m: numbered.setdefault(m[0], f"{m[1]}{len(numbered) + 1}"), drawn)


def _still(node: Any) -> Any:
    """The specification without what is there for the pointer only."""
    if isinstance(node, str):
        return node.removesuffix(CLICK)
    if isinstance(node, list):
        return [_still(item) for item in node]
    if not isinstance(node, dict):
        return node
    nothing = {"transform": [{"filter": "false"}]} if node.get("name") == HOVER and "mark" in node else {}
    return {key: item if key in ("data", "datasets") else _still(item) for key, item in node.items()} | nothing
