"""The report as Markdown, figures beside it as SVG files: what a repository shows."""

import re
from collections.abc import Sequence

from research.reports.cells import Cell, Grid
from research.reports.page import Drawing, Page, Prose, Sheet

_MARKS = {"better": "▲ better", "worse": "▼ worse", "cannot tell": "? cannot tell"}


def render(pages: Sequence[Page], *, figures: str = "figures") -> str:
    """The report as Markdown text; charts are `FIGURES/<name>.svg`, links relative to the report's folder."""
    return "\n\n".join(block for page in pages for block in _page(page, figures)) + "\n"


def _page(page: Page, figures: str) -> list[str]:
    blocks = [
        f"# {escape(page.title)}",
        _block(f"{escape(page.name)} · {escape(page.progress)}"),
        *_prose(page.question),
    ]
    blocks += [f"> **Note.** {escape(warning)}" for warning in page.warnings]
    if page.verdicts:
        rows = [f"| {_MARKS[v.verdict]} | {escape(v.claim)} | {escape(v.detail)} |" for v in page.verdicts]
        blocks += [page.tally, "\n".join(["| verdict | claim | what the runs say |", "| --- | --- | --- |", *rows])]
    blocks.append(
        "\n".join(["| regime | |", "| --- | --- |", *(f"| {escape(k)} | {escape(v)} |" for k, v in page.facts)])
    )
    for part in page.parts:
        blocks += [f"## {escape(part.title)}", *_prose(part.text)]
        for item in part.items:
            blocks += _drawing(item, figures) if isinstance(item, Drawing) else _sheet(item)
    return blocks


def _drawing(drawing: Drawing, figures: str) -> list[str]:
    if drawing.svg is None:
        return [f"**{escape(drawing.title)}**: nothing to draw yet.", *_prose(drawing.note)]
    return [f"![{escape(drawing.title)}]({figures}/{drawing.name}.svg)", *_prose(drawing.note)]


def _sheet(sheet: Sheet) -> list[str]:
    body = [_table(sheet.grid)] if sheet.grid.rows else ["Nothing to show yet."]
    return [f"**{escape(sheet.title)}**", *body, *_prose(sheet.note)]


def _table(grid: Grid) -> str:
    rule = [("---:" if number else "---") for number in grid.numbers]
    rows = [[_cell(cell) for cell in row] for row in grid.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [[escape(h) for h in grid.headings], rule, *rows])


def _cell(cell: Cell) -> str:
    return " ".join(f"[{escape(p.text)}](<{p.href}>)" if p.href else escape(p.text) for p in cell.parts)


def _prose(paragraphs: Prose) -> list[str]:
    return [_block("".join(f"`{text}`" if is_code else _escaped(text) for is_code, text in p)) for p in paragraphs]


def _block(text: str) -> str:
    """A paragraph whose first character begins no list, rule or heading."""
    return re.sub(r"^(\d{1,9})?([-+=.)])", r"\1\\\2", text.strip())


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no formula, no HTML, no line break."""
    return _escaped(text).strip()


def _escaped(text: str) -> str:
    text = re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", re.sub(r"\s+", " ", text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
