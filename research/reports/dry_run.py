"""What `--dry-run` prints: the runs of a plan with predicted cost, and what a study of them could tell."""

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from research.reports import comparison

if TYPE_CHECKING:
    from research.config import Config
    from research.reports.document import Document
    from research.sweeps.plan import Planned
    from research.sweeps.results import Result

COLUMNS = 80
_WIDE = 30  # a longer name has a line of its own


def table(rows: Sequence[dict[str, Any]], planned: "Sequence[Planned]") -> str:
    """A line for each of `predict.rows(planned)`, why arms are off their targets, and the sum.

    A run that is another one too (the same config under another arm's name) is trained once and said so.
    """
    lines = [f"{'run':<{_WIDE}} {'params':>11} {'macs':>14} {'activations':>12} {'seconds':>8}"]
    first: dict[Config, dict[str, Any]] = {}
    for row, of_row in zip(rows, planned, strict=True):
        label, same = row["run"], first.setdefault(of_row.config, row)
        seconds = "unknown" if row["predicted_seconds"] is None else f"{row['predicted_seconds']:.0f}"
        numbers = f"{row['params']:>11,} {row['macs']:>14,} {row['activations']:>12,} {seconds:>8}"
        shown = numbers if same is row else f" is {same['run']}"
        lines += [f"{label:<{_WIDE}} {shown}"] if len(label) <= _WIDE else [label, f"{'':<{_WIDE}} {shown}"]
    off = (row for row in rows if row["reason"])
    reasons = dict.fromkeys(f"{row['arm']}/{row['budget'].partition(',')[0]}: {row['reason']}" for row in off)
    lines += (textwrap.fill(reason, COLUMNS, subsequent_indent="  ") for reason in reasons)
    known = [row["predicted_seconds"] for row in first.values() if row["predicted_seconds"] is not None]
    rest = "" if len(known) == len(first) else f" and {len(first) - len(known)} of unknown length"
    shared = "" if len(first) == len(rows) else f", {len(rows) - len(first)} the same as another"
    total = f"{len(rows)} runs{shared}, {sum(known):.0f} s predicted, compilation not counted{rest}"
    return "\n".join([*lines, textwrap.fill(total, COLUMNS)])


def power(
    report: "Callable[[Sequence[Result]], Document]", planned: "Sequence[Planned]", spread: float | None = None
) -> str:
    """What a study could tell, were all of its runs made; `spread` as in `comparison.power`."""
    from research.sweeps.results import Result

    waiting = [Result(p.label, p.arm, p.budget, p.seed, "", "waiting") for p in planned]
    return textwrap.fill(comparison.power(report(waiting).families, spread), COLUMNS)


def then(follow_up: Callable[..., Any]) -> str:
    """What a study will run when these runs are done, in its own words."""
    return textwrap.fill(f"Then: {(follow_up.__doc__ or '').strip().splitlines()[0]}", COLUMNS)
