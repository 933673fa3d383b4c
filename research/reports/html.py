"""The report as one HTML file that opens from disk: every script, style and chart is inside it."""

import base64
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from research import backend
from research.reports.page import Drawing, Page
from research.reports.theme import theme

# A report may show text from anywhere (run labels, reasons of failures): nothing may be fetched, whatever it says.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)


# What is drawn where scripts do not run: larger figures are only named there, as a page of them would open slowly.
LARGEST_STILL = 100_000  # bytes

FIRST_VERDICTS = 10  # as many as a first screen has room for; the others unfold

# vl-convert's own default, which its type stub does not declare as one
_GLOBALS = "window.vegaEmbed=vegaEmbed; window.vega=vega; window.vegaLite=vegaLite;"


@dataclass(frozen=True)
class Reload:
    """A page that loads itself again every so many `seconds`, and says meanwhile how far the runs are (`counts`)."""

    seconds: float
    counts: str


def render(pages: Sequence[Page], reload: Reload | None = None) -> str:
    """The report page as HTML text; equal pages give equal text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("research.reports", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":"), "allow_nan": False}
    environment.filters["data_uri"] = data_uri
    return environment.get_template("template.html.j2").render(
        pages=pages,
        reload=reload,
        policy=POLICY,
        themes={"light": _in_page(theme("light")), "dark": _in_page(theme("dark"))},
        bundle=bundle() if any(has_figures(page) for page in pages) else "",
        records=records(pages),
        largest_still=LARGEST_STILL,
        first_verdicts=FIRST_VERDICTS,
        marks={"better": "▲", "worse": "▼", "cannot tell": "?"},
    )


def _in_page(look: dict[str, Any]) -> dict[str, Any]:
    return look | {"background": "transparent"}


def records(pages: Sequence[Page]) -> dict[str, list[str]]:
    """Run id -> its label and the address of its record ("" where there is none), for what the pointer shows."""
    return {run: list(known) for page in pages for run, known in page.runs.items()}


def has_figures(page: Page) -> bool:
    """Whether the page has a chart to draw."""
    return any(isinstance(item, Drawing) and item.spec for part in page.parts for item in part.items)


def bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script, from inside vl-convert; nothing in it can end the script.

    Kept in the user's cache, since making it takes more than a second.
    """
    import vl_convert

    file = backend.cache_folder() / f"vega-{metadata.version('vl-convert-python')}.js"
    with contextlib.suppress(OSError):
        kept, _, digest = file.read_text().rpartition("\n//")
        if hashlib.sha256(kept.encode()).hexdigest() == digest:
            return kept
    made = vl_convert.javascript_bundle(_GLOBALS).replace("</script", "<\\/script").replace("<!--", "<\\!--")
    with contextlib.suppress(OSError):  # what is not written, or not whole, is made again the next time
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{made}\n//{hashlib.sha256(made.encode()).hexdigest()}")
    return made


def data_uri(svg: str) -> str:
    """An SVG document as the address of an image that holds it."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
