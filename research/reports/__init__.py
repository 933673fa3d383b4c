"""Reports: what the records of runs say, as a self-contained HTML file, Markdown with SVG figures, and a results table.

`write` is all the command line needs. A study builds its `document.Document` with `tables` (records as frames) and
`figures` (charts). The libraries for both are imported when something is drawn, not before.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from etils import epath

from research import storage
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
        storage.write(folder / "figures" / name, svg)
    rows = tables.results_frame(studies, folder)
    storage.write(folder / "results.parquet", tables.parquet(rows))
    storage.write(folder / "results.csv", tables.csv(rows))
    storage.write(folder / "README.md", markdown.render(laid))
    storage.write(folder / "report.html", html.render(laid, reload))
    for old in storage.names(folder / "figures"):
        if old.endswith(".svg") and old not in drawn:
            storage.remove(folder / "figures" / old)
    return folder / "report.html"
