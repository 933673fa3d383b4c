"""How far a sweep is, read from its folder while others train: one look at each run, or a table that follows them."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from research import storage
from research.errors import UserError
from research.sweeps import store
from research.training import lease, record

Row = dict[str, Any]
EVERY, EVERY_AT_STORE = 2.0, 10.0  # seconds between two looks of a table that follows


def rows(workdir: epath.PathLike) -> list[Row]:
    """One row per planned run of every study of a workdir, for `launch.py status`.

    Keys: study, scale, run (its label), id, status (one of `store.STATES`), step (the last known, or null), steps (of
    the whole run, or null), seconds_left (of one that is running, or null), reason (of a failure; of a run that nobody
    is training any more). A run that several studies share is looked at once. Raises `UserError` where the folder has
    no study.
    """
    studies = store.read_studies(workdir)
    ids = list(dict.fromkeys(run["id"] for study in studies for run in study["runs"]))
    known = dict(zip(ids, storage.each(lambda id_: _look(store.run_folder(workdir, id_)), ids, workdir), strict=True))
    found = []
    for study in studies:
        for run in study["runs"]:
            label = f"{run['arm']}/{run['budget']}/{run['seed']}"
            found.append(
                {"study": study["name"], "scale": study["scale"], "run": label, "id": run["id"], **known[run["id"]]}
            )
    return found


def _look(folder: epath.Path) -> Row:
    row: Row = {"status": "waiting", "step": None, "steps": None, "seconds_left": None, "reason": ""}
    try:
        summary = record.read_if_there(folder / record.SUMMARY)
    except UserError as error:  # the others can be shown
        return row | {"status": "failed", "reason": str(error)}
    if summary is not None:
        ended = {"status": summary.get("status", "failed"), "reason": summary.get("reason", "")}
        return row | ended | {"step": summary.get("step")}
    if storage.read(folder / record.CONFIG) is None:
        return row
    sight, _, who = lease.Watch(folder).look()
    seen = lease.progress(folder)
    row |= {"status": "running", "step": seen.step or None, "steps": seen.steps or None}
    if sight == "free":
        return row | {"reason": f"{who} is gone; the same command continues"}
    if seen.rate:
        row["seconds_left"] = (seen.steps - seen.step) / seen.rate
    return row


def counts(found: Iterable[Row]) -> str:
    """`3 finished, 1 running`: every state that there is."""
    return ", ".join(f"{number} {state}" for state, number in sorted(Counter(row["status"] for row in found).items()))


def line(row: Mapping[str, Any]) -> str:
    """One run in words."""
    step = "" if row["step"] is None else f"step {row['step']}"
    if row["status"] == "running" and row["steps"]:
        step += f" of {row['steps']}"
    left = "" if row["seconds_left"] is None else f"{_clock(row['seconds_left'])} left"
    said = " ".join(word for word in (step, left, " ".join(row["reason"].split())) if word)
    return f"{row['status']:<10} {row['run']:<36} {row['id']} {said}".rstrip()


def _clock(seconds: float) -> str:
    hours, minutes = divmod(round(seconds) // 60, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{round(seconds) % 60:02}s"


def follow(workdir: epath.PathLike, *, look: Callable[[epath.PathLike], Sequence[Row]] = rows) -> None:
    """Show the runs that are running or have failed, and how many are in each state, until none is left to wait for."""
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.text import Text

    with Live(refresh_per_second=4) as live:
        while True:
            found = look(workdir)
            bars = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}")
            )
            for row in found:
                if row["status"] == "running" and row["steps"]:
                    left = "" if row["seconds_left"] is None else f"{_clock(row['seconds_left'])} left"
                    bars.add_task(row["run"], total=row["steps"], completed=row["step"] or 0, left=left)
            failed = [Text(line(row)) for row in found if row["status"] == "failed"]
            live.update(Group(*failed, bars, Text(counts(found))))
            if all(row["status"] in ("finished", "failed") for row in found):
                return
            time.sleep(EVERY_AT_STORE if storage.is_remote(workdir) else EVERY)
