"""What the probes of runs found, as rows and figures: a number for each layer, by arm."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from research.reports import figures, tables, wording
from research.reports.document import Figure

if TYPE_CHECKING:
    from research.sweeps.results import Result

When = Literal["first", "last"]
TITLES = {
    "gradient_norms": "Gradient norm of each layer's kernel",
    "response_deviations": "Standard deviation of each layer's response",
    "block_deletion_errors": "Error without a block",
}


def found(result: "Result", probe: str, when: When) -> dict[str, float]:
    """Layer -> value of a probe in the first record that has it, or the last, in the order in which layers run."""
    prefix = f"probe/{probe}/"
    records = [record for record in result.metrics if any(key.startswith(prefix) for key in record)]
    if not records:
        return {}
    chosen: Mapping[str, Any] = records[0 if when == "first" else -1]
    return {key.removeprefix(prefix): value for key, value in chosen.items() if key.startswith(prefix)}


def rows(results: "Iterable[Result]", probe: str, when: When) -> list[dict[str, Any]]:
    """A row for each layer of each run: arm, layer, its place from 1 in the order of layers, value, run."""
    return [
        {"arm": r.arm, "layer": layer, "place": place, "value": value, "run": r.id}
        for r in tables.ordered(results)
        for place, (layer, value) in enumerate(found(r, probe, when).items(), start=1)
    ]


def figure(results: "Iterable[Result]", probe: str, when: When) -> Figure:
    """A probe's values against the place of the layer, a line for each arm; nothing to draw where no run has it."""
    title, moment = (
        TITLES.get(probe, wording.title(probe)),
        {"first": "before training", "last": "after training"}[when],
    )
    made = tables.frame(rows(results, probe, when), ["arm", "place", "value", "run"])
    what = "block" if "block" in probe else "layer"
    across, up = f"{what}, from the image on", title[:1].lower() + title[1:]
    chart = figures.metric_against(made, "place", "value", "arm", title_x=across, title_y=up, log_x=False, log_y=None)
    note = f"Points are runs, lines their means; {moment}." if made.height else "No run has been probed yet."
    return Figure(f"{title}, {moment}", chart, note)
