"""Table cells as text with links: what HTML and Markdown both write."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from research.reports import wording
from research.reports.document import Table

Links = Mapping[str, str]  # run id -> address of its record, relative to the report


@dataclass(frozen=True)
class Part:
    """A piece of a cell: text, the address it links to (or ""), and the exact value behind it (or "")."""

    text: str
    href: str = ""
    exact: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell: its parts, the value it sorts by, and whether it is a number (set flush right)."""

    parts: tuple[Part, ...]
    sort: float | str
    number: bool = False

    @property
    def text(self) -> str:
        """The parts as plain text."""
        return " ".join(part.text for part in self.parts)


@dataclass(frozen=True)
class Grid:
    """A table ready to be written: headings, which columns hold numbers, rows of cells."""

    headings: tuple[str, ...]
    numbers: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]


def grid(table: Table, links: Links) -> Grid:
    """The cells of `table`; columns that are empty in every row are left out."""
    names = [name for name in table.frame.columns if table.frame[name].null_count() < table.frame.height]
    rows = tuple(
        tuple(_cell(name, row[name], table.formats.get(name, ""), links) for name in names)
        for row in table.frame.iter_rows(named=True)
    )
    headings = tuple(table.labels.get(name, wording.title(name)) for name in names)
    numbers = tuple(any(row[i].number for row in rows) for i in range(len(names)))
    return Grid(headings, numbers, rows)


def _cell(name: str, item: Any, specification: str, links: Links) -> Cell:
    if isinstance(item, list):
        inner = [_cell(name, one, specification, links) for one in item]
        parts = tuple(part for cell in inner for part in cell.parts)
        return Cell(parts or (Part(wording.MISSING),), inner[0].sort if inner else "", any(c.number for c in inner))
    if isinstance(item, dict) and "run" in item:
        key, run = item.get("key") or name, item["run"]
        cell = _cell(key, item.get("value"), specification, {})
        return Cell((Part(cell.parts[0].text, links.get(run, ""), cell.parts[0].exact),), cell.sort, True)
    if isinstance(item, dict) and "mean" in item:
        exact = repr(item["mean"]) if item["deviation"] is None else f"{item['mean']!r} ± {item['deviation']!r}"
        return Cell(
            (Part(wording.spread(name, item["mean"], item["deviation"], specification), "", exact),), item["mean"], True
        )
    if name == "run":
        return Cell((Part(str(item), links.get(str(item), "")),), str(item))
    text = wording.value(name, item, specification)
    if isinstance(item, int | float) and not isinstance(item, bool):
        return Cell((Part(text, "", repr(item) if isinstance(item, float) else ""),), item, True)
    return Cell((Part(text),), text)
