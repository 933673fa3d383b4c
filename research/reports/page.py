"""A document laid out: cells formatted, charts turned into specifications and SVG, names and addresses fixed.

HTML and Markdown are two ways to write the same `Page`, so that they cannot disagree.
"""

import urllib.parse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from research.reports import cells, drawing, standard, tables, wording
from research.reports.document import Document, Figure, Section, Table, Verdict

if TYPE_CHECKING:
    from research.sweeps.results import StudyRecord

Prose = list[list[tuple[bool, str]]]  # `wording.paragraphs`


@dataclass(frozen=True)
class Sheet:
    """A table ready to write. `pairs`: it has only the columns key and value."""

    title: str
    note: Prose
    grid: cells.Grid
    pairs: bool

    kind = "table"


@dataclass(frozen=True)
class Drawing:
    """A figure ready to write: `spec` for the browser, `svg` for everywhere else; None: nothing to draw yet."""

    title: str
    note: Prose
    name: str  # unique in the report: anchor, and file name without its suffix
    spec: dict[str, Any] | None
    svg: str | None

    kind = "figure"


@dataclass(frozen=True)
class Part:
    """A section ready to write."""

    title: str
    anchor: str
    text: Prose
    items: tuple[Sheet | Drawing, ...]


@dataclass(frozen=True)
class Page:
    """One study's report ready to write."""

    title: str
    anchor: str
    name: str
    progress: str
    question: Prose
    verdicts: tuple[Verdict, ...]
    tally: str  # how many verdicts are which
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    runs: Mapping[str, tuple[str, str]]  # run id -> its label, and the address of its record or ""
    parts: tuple[Part, ...]


def pages(documents: Sequence[Document], studies: "Sequence[StudyRecord]", workdir: Any) -> list[Page]:
    """Lay out one page per document; `studies` are their records, in the same order."""
    used: set[str] = set()  # names of figures, which are files of one folder
    return [
        _page(document, study, _links(study, workdir), f"study-{index}", used)
        for index, (document, study) in enumerate(zip(documents, studies, strict=True), start=1)
    ]


def _links(study: "StudyRecord", workdir: Any) -> cells.Links:
    """Run id -> its summary, or its folder while there is none, relative to the report; nothing for runs not begun."""
    links = {}
    for result in study.results:
        if result.config or result.summary:
            path = tables.run_path(result, workdir)
            quoted = urllib.parse.quote(path, safe="/:" if "://" in path else "/")  # a folder may have any name
            links[result.id] = f"{quoted}/{'summary.json' if result.summary else ''}"
    return links


def _page(document: Document, study: "StudyRecord", links: cells.Links, anchor: str, used: set[str]) -> Page:
    prefix = wording.slug(f"{study.name} {study.scale}")
    return Page(
        title=document.title,
        anchor=anchor,
        name=" · ".join(word for word in (study.name, study.scale) if word),
        progress=standard.progress(study.results),
        question=wording.paragraphs(document.question),
        verdicts=tuple(document.verdicts),
        tally=_tally(document.verdicts),
        facts=tuple(standard.facts(study.results)),
        warnings=tuple(standard.warnings(study.results)),
        runs={result.id: (result.label, links.get(result.id, "")) for result in study.results},
        parts=tuple(
            Part(
                title=section.title,
                anchor=f"{anchor}-{index}",
                text=wording.paragraphs(section.text),
                items=tuple(_items(section, links, prefix, used)),
            )
            for index, section in enumerate([*document.sections, *standard.sections(study)], start=1)
        ),
    )


def _tally(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.verdict for verdict in verdicts)
    said = (f"{counts[word]} {word}" for word in ("better", "worse", "cannot tell") if counts[word])
    return f"{len(verdicts)} verdict{'s' * (len(verdicts) != 1)}: {', '.join(said)}"


def _items(section: Section, links: cells.Links, prefix: str, used: set[str]) -> Iterable[Sheet | Drawing]:
    for item in section.items:
        note = wording.paragraphs(item.note)
        if isinstance(item, Table):
            yield Sheet(item.title, note, cells.grid(item, links), item.frame.columns == ["key", "value"])
        else:
            name = _unique(f"{prefix}-{wording.slug(item.title)}"[:100], used)
            spec, svg = (None, item.picture) if item.picture else _draw(item)
            yield Drawing(item.title, note, name, spec, svg)


def _unique(name: str, used: set[str]) -> str:
    candidate, number = name, 1
    while candidate in used:
        number += 1
        candidate = f"{name}-{number}"
    used.add(candidate)
    return candidate


def _draw(figure: Figure) -> tuple[dict[str, Any] | None, str | None]:
    if figure.chart is None:
        return None, None
    spec = drawing.specification(figure.chart)
    return spec, drawing.svg(spec)
