"""Results: what the records of a workdir say about the runs of its studies. Reports read only this."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from etils import epath

from research import storage
from research.config import Config, from_dict
from research.errors import UserError
from research.sweeps import store
from research.training import record
from research.values import annotations

# Control characters, halves of characters (what Python makes of a file name that is no text), what XML forbids, and
# the line breaks that JavaScript does not have inside of text.
_NO_CHARACTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Result:
    """One run of a study as recorded; `config`, `environment`, `metrics`, `summary` are empty where not written yet."""

    id: str
    arm: str
    budget: str
    seed: int
    path: str
    status: str  # one of store.STATES
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)  # of its network's step, alone: a row of `launch.py bench`
    target_macs: int | None = None
    reason: str = ""  # why the arm cannot have `target_macs`
    accepted_code: str = ""  # digest of the older code that trained it, where `--accept-code` let it in
    folder: str = ""  # of several merged: the later one that has another run of this arm, budget and seed

    @property
    def label(self) -> str:
        """`arm/budget/seed`."""
        return f"{self.arm}/{self.budget}/{self.seed}"

    @property
    def conditions(self) -> str:
        """Platform, device and precision it ran with: results that differ in it are not pooled. "" while not known."""
        if not self.config or not self.environment:
            return ""
        device, precision = self.environment["device"], self.config["precision"]
        words = (device["platform"], device["device_kind"], precision["compute"], f"matmul {precision['matmul']}")
        return ", ".join(dict.fromkeys(words))


@dataclass(frozen=True)
class StudyRecord:
    """One study of a workdir: what it asked, the command that ran it, and every run it wants, in the plan's order."""

    name: str
    scale: str
    question: str
    command: str
    results: list[Result]
    axes: tuple[str, ...] = ()  # of a sweep: the swept config keys


def read(workdir: epath.PathLike) -> list[StudyRecord]:
    """Every study of a workdir with the present state of its runs. Raises `UserError`: no study, a damaged record."""
    entries, timings = readable(store.read_studies(workdir)), store.read_timings(workdir)
    planned = [run for entry in entries for run in entry["runs"]]
    found = iter(storage.each(lambda run: _result(workdir, run, timings), planned, workdir))
    return [
        StudyRecord(
            name=entry["name"],
            scale=entry["scale"],
            question=entry.get("question", ""),
            command=entry.get("command", ""),
            results=[next(found) for _ in entry["runs"]],
            axes=tuple(entry.get("axes", ())),
        )
        for entry in entries
    ]


def readable(value: Any) -> Any:
    """JSON values whose text can be written and shown anywhere: a mark for what is no character (of a broken name)."""
    if isinstance(value, str):
        return _NO_CHARACTERS.sub("\ufffd", value)
    if isinstance(value, list):
        return [readable(item) for item in value]
    return {readable(k): readable(v) for k, v in value.items()} if isinstance(value, dict) else value


def _result(workdir: epath.PathLike, planned: dict[str, Any], timings: dict[str, Any]) -> Result:
    folder = store.run_folder(workdir, planned["id"])
    status = store.state(folder)
    result = Result(**planned, path=str(folder), status=status, timing=timings.get(planned["id"], {}))
    if status == "waiting":
        return result
    run = record.read_run(folder)
    _check(run)
    return dataclasses.replace(
        result,
        config=readable(run.config),
        environment=readable(run.environment),
        metrics=run.metrics,
        summary=readable(run.summary or {}),
    )


def _check(run: record.Run) -> None:
    """Raise `UserError` where a record has another type than what reads it expects; keys of other versions may be."""
    where = epath.Path(run.path)
    known = {key: value for key, value in run.config.items() if key in annotations(Config)}
    for key, kind in annotations(Config).items():
        if isinstance(known.get(key), dict) and dataclasses.is_dataclass(kind):
            fields = annotations(cast(type, kind))
            known[key] = {name: value for name, value in known[key].items() if name in fields}
    try:
        from_dict(known)
    except UserError as error:
        raise UserError(f"{where / record.CONFIG} is damaged: {error}") from error
    device = run.environment.get("device")
    words = [device.get(key) for key in ("platform", "device_kind")] if isinstance(device, dict) else [None]
    if run.environment and not all(isinstance(word, str) for word in words):
        raise UserError(f"{where / record.ENVIRONMENT} is damaged: it does not say on which device the run was made")


def folder_names(folders: Sequence[epath.PathLike]) -> list[str]:
    """A name for each of several workdirs: its last part, numbered where two have the same."""
    names: list[str] = []
    for folder in folders:
        text = str(folder)
        own = text.rstrip("/").rpartition("/")[2] if "://" in text else Path(text).resolve().name
        number = next(n for n in itertools.count(1) if (own if n == 1 else f"{own}-{n}") not in names)
        names.append(own if number == 1 else f"{own}-{number}")
    return names


def merge(folders: Sequence[tuple[str, Iterable[StudyRecord]]]) -> list[StudyRecord]:
    """Studies of several workdirs, given as (name of the folder, its studies), as one list.

    Within one study and scale, the same run is kept once (the finished copy); a label that stands for another run in
    a later folder (other code, other data) is kept beside the first as arm `ARM@FOLDER`, to be compared, not pooled.
    """
    merged: dict[tuple[str, str], StudyRecord] = {}
    for folder, studies in folders:
        for study in studies:
            first = merged.get((study.name, study.scale))
            results = _joined(first.results if first else [], study.results, folder)
            merged[study.name, study.scale] = dataclasses.replace(first or study, results=results)
    return list(merged.values())


def _joined(first: Sequence[Result], later: Iterable[Result], folder: str) -> list[Result]:
    joined = {result.label: result for result in first}
    for result in later:
        named = result
        for number in itertools.count(1):
            present = joined.get(named.label)
            if present is None or present.id == result.id:
                break
            suffix = folder if number == 1 else f"{folder}-{number}"  # folders may share a name
            named = dataclasses.replace(result, arm=f"{result.arm}@{suffix}", folder=suffix)
        if present is None or present.status != "finished":
            joined[named.label] = named
    return list(joined.values())


def count(results: Iterable[Result]) -> dict[str, int]:
    """How many runs are in each of `store.STATES`, every state named."""
    states = [result.status for result in results]
    return {state: states.count(state) for state in store.STATES}
