"""Charts turned into what is written: a Vega-Lite object for the browser, an SVG document for everywhere else."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from research.reports.theme import theme

if TYPE_CHECKING:
    import altair as alt

VEGA_LITE = "6.4"  # the grammar altair 6 writes and vl-convert bundles
CLICK = " (click to choose)"  # in the title of a legend that can be clicked; left out of SVG files
HOVER = "hover"  # name of a layer that is only there for the pointer, and left out of SVG files


class _Rows:
    """Rows of a chart that altair puts into its specification as they are, without a look at each of them."""

    _schema: ClassVar[dict[str, Any]] = {"type": "array"}

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = list(rows)

    def to_dict(self) -> list[dict[str, Any]]:
        """What altair asks of each of its own objects."""
        return self._rows


def data(rows: Sequence[dict[str, Any]]) -> "alt.Data":
    """The data of a chart: `alt.Data(values=rows)`, which would check every row against a schema and copy it."""
    import altair as alt
    from altair.utils import schemapi

    with schemapi.debug_mode(False):
        return alt.Data(values=_Rows(rows))


def lookup(rows: Sequence[dict[str, Any]], key: str) -> "alt.LookupData":
    """Rows to be looked up by `key`: every other column of them."""
    import altair as alt
    from altair.utils import schemapi

    with schemapi.debug_mode(False):
        return alt.LookupData(data=data(rows), key=key, fields=[name for name in rows[0] if name != key])


def specification(chart: "alt.TopLevelMixin") -> dict[str, Any]:
    """The chart as a Vega-Lite object, the same for the same chart whatever was drawn before it in this process."""
    import altair as alt

    with alt.data_transformers.enable("default", max_rows=None):
        spec = chart.to_dict(validate=False)
    spec.pop("config", None)  # the report's theme is the only one
    spec.pop("$schema", None)
    return _settled(spec, {})


def _settled(node: Any, numbered: dict[str, str], key: str = "") -> Any:
    """Altair counts the views and parameters of a process: count them from here. Rows and words of people stay.

    But for titles: Vega-Lite writes those of tooltips into expressions, and a line break or a backslash breaks them.
    """
    if isinstance(node, str) and key == "title":
        return " ".join(node.split()).replace("\\", "\u29f5")  # which looks like one
    if isinstance(node, str) and key in ("name", "param", "views"):
        if match := re.fullmatch(r"(view|param)_(?:[0-9a-f]{16}_)?\d+", node):
            return numbered.setdefault(node, f"{match[1]}_{len(numbered) + 1}")
    elif isinstance(node, list):
        return [_settled(item, numbered, key) for item in node]
    elif isinstance(node, dict):
        return {k: v if k in ("values", "datasets") else _settled(v, numbered, k) for k, v in node.items()}
    return node


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
    return {key: item if key in ("values", "datasets") else _still(item) for key, item in node.items()} | nothing
