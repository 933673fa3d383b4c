"""What `--dry-run` prints: the runs of a plan with their predicted cost, and what a study of them could tell."""

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from research.reports import comparison

if TYPE_CHECKING:
    from research.reports.document import Document
    from research.sweeps.plan import Planned
    from research.sweeps.results import Result

COLUMNS = 80


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each of `predict.rows`, why arms are off their targets, and the sum."""
    wide = max(30, *(len(row["run"]) for row in rows))
    lines = [f"{'run':<{wide}} {'params':>11} {'macs':>14} {'activations':>12} {'seconds':>8}"]
    for row in rows:
        seconds = "unknown" if row["predicted_seconds"] is None else f"{row['predicted_seconds']:.0f}"
        numbers = f"{row['params']:>11,} {row['macs']:>14,} {row['activations']:>12,} {seconds:>8}"
        lines.append(f"{row['run']:<{wide}} {numbers}")
    off = (row for row in rows if row["reason"])
    lines += dict.fromkeys(f"{row['arm']}/{row['budget'].partition(',')[0]}: {row['reason']}" for row in off)
    known = [row["predicted_seconds"] for row in rows if row["predicted_seconds"] is not None]
    rest = "" if len(known) == len(rows) else f" and {len(rows) - len(known)} of unknown length"
    return "\n".join([*lines, f"{len(rows)} runs, {sum(known):.0f} s predicted, compilation not counted{rest}"])


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
