"""Reports: what the records of runs say, as a self-contained HTML file, Markdown with SVG figures, and a results table.

`write` is all the command line needs. A study builds its `document.Document` with `tables` (records as frames) and
`figures` (charts). The libraries for both are imported when something is drawn, not before.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from etils import epath

from research.reports.document import Document

if TYPE_CHECKING:
    from research.sweeps.results import StudyRecord


def write(
    documents: Sequence[Document],
    studies: "Sequence[StudyRecord]",
    workdir: epath.PathLike,
    *,
    live: float | None = None,
) -> epath.Path:
    """Write report.html, README.md, results.parquet, results.csv and figures/*.svg into `workdir`; returns report.html.

    `documents` are the reports of `studies`, in the same order. Only the records decide what is written: the same
    records give the same bytes. Every file appears whole or not at all; SVG files of an older report are removed.
    `live`: the page says how far the runs are, and loads itself again every so many seconds (`live.still` ends that).
    """
    from research.reports import html, markdown, page, tables
    from research.reports.live import counts

    folder = epath.Path(workdir)
    laid = page.pages(documents, studies, folder)
    reload = None if live is None else html.Reload(live, counts(studies))
    drawn = {
        f"{item.name}.svg": item.svg
        for one in laid
        for part in one.parts
        for item in part.items
        if isinstance(item, page.Drawing) and item.svg is not None
    }
    for name, svg in drawn.items():
        write_file(folder / "figures" / name, svg.encode())
    rows = tables.results_frame(studies, folder)
    write_file(folder / "results.parquet", tables.parquet(rows))
    write_file(folder / "results.csv", tables.csv(rows))
    write_file(folder / "README.md", markdown.render(laid).encode())
    write_file(folder / "report.html", html.render(laid, reload).encode())
    if (folder / "figures").exists():
        for old in (folder / "figures").glob("*.svg"):
            if old.name not in drawn:
                old.unlink()
    return folder / "report.html"


def write_file(path: epath.Path, content: bytes) -> None:
    """Whole or not at all: under another name first, which no other process writes to, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{path.name}.{os.getpid()}.partial"
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except BaseException:  # a full disk, a signal: nothing of it stays
        partial.unlink(missing_ok=True)
        raise
