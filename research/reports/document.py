"""What a report is made of, before it is written as HTML or Markdown: text, tables, figures and verdicts as values.

A study's `report(results)` returns one `Document` with what only the study can say. What every report shows (regime,
learning curves, runs, cost, recipe, environment, commands) is added by `research.reports.write`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # both are slow to import, and listing the studies must not wait for them
    import altair as alt
    import polars as pl

    from research.reports.comparison import Family

FINISHED, FAILED = "finished", "failed"


@dataclass(frozen=True)
class Table:
    """A table: one row per row of `frame`.

    Cells are plain values, or: a struct {value, run}, a number that links to the run (id) it comes from; a list of
    these; a struct {mean, deviation}, written as mean ± deviation. A column called `run` holds run ids and is linked.
    `labels`: column -> heading; `formats`: column -> format specification such as ".3f". Both have good defaults.
    """

    title: str
    frame: "pl.DataFrame"
    note: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A chart, interactive in HTML and an SVG file in Markdown; `chart=None`: nothing to draw yet.

    `picture`: an SVG document in place of a chart.
    """

    title: str
    chart: "alt.TopLevelMixin | None"
    note: str = ""
    picture: str = ""


@dataclass(frozen=True)
class Verdict:
    """One claim and what the runs say about it."""

    claim: str
    verdict: Literal["better", "worse", "cannot tell"]
    detail: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs (blank lines between them, `code` in backticks), then tables and figures in order."""

    title: str
    text: str = ""
    items: Sequence[Table | Figure] = ()


@dataclass(frozen=True)
class Document:
    """The report of one study: its question, the answers, and what supports them."""

    title: str
    question: str
    verdicts: Sequence[Verdict] = ()
    sections: Sequence[Section] = ()
    families: "Sequence[Family]" = ()  # of claims that are judged together: what a dry run says of their power
