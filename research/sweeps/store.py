"""The store: `WORKDIR/runs/<id>/` holds each run once, `WORKDIR/study.json` says which studies want which runs."""

import contextlib
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from research import storage
from research.errors import UserError, unknown
from research.sweeps.identity import RunIdentity, identity
from research.training import lease, record

_log = logging.getLogger(__name__)
STUDY = "study.json"
TIMINGS = "timings.json"
STATES = ("waiting", "running", "finished", "failed", "preempted")


def run_folder(workdir: epath.PathLike, run_id: str) -> epath.Path:
    """Where the run with this identity lives, whether or not it exists yet."""
    return epath.Path(workdir) / "runs" / run_id


def group_folder(workdir: epath.PathLike, ids: Sequence[str]) -> epath.Path:
    """Where runs with these identities that train together, in this order, keep their common state until they end."""
    name = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
    return epath.Path(workdir) / "groups" / name


def state(folder: epath.PathLike) -> str:
    """One of `STATES`, as the folder's records say: no config yet is waiting, no summary yet is running.

    Raises `record.Damaged`.
    """
    summary = record.read_summary(folder)
    if summary is not None:
        status: str = summary["status"]
        return status
    return "waiting" if storage.read(epath.Path(folder) / record.CONFIG) is None else "running"


def locate(workdir: epath.PathLike, wanted: RunIdentity, accepted_code: Iterable[str] = ()) -> RunIdentity:
    """The identity whose results serve for `wanted`: itself, or the same run of an accepted code, where that finished.

    A finished run of the present code always wins. `accepted_code`: full code digests (`resolve_code`).
    """
    if state(run_folder(workdir, wanted.id)) != "finished":
        for code in accepted_code:
            older = identity(wanted.config_digest, code, wanted.data_fingerprint)
            if _is_soundly_finished(run_folder(workdir, older.id)):
                return older
    return wanted


def _is_soundly_finished(folder: epath.Path) -> bool:
    """Whether a run of older code, which this code cannot train again, is finished, with no record damaged."""
    try:
        if state(folder) == "finished":
            record.read_run(folder)
            return True
    except record.Damaged as damage:
        _log.warning("%s", str(damage).replace(record.REMEDY, "it is not accepted"))
    return False


def code_digests(workdir: epath.PathLike) -> Counter[str]:
    """How many runs of the workdir were trained by which code (digest), from their `environment.json`.

    One that is damaged counts for none: its run will be trained again.
    """
    folders = [run_folder(workdir, name) for name in storage.names(epath.Path(workdir) / "runs")]
    return Counter(filter(None, storage.each(_code_of, folders, workdir)))


def _code_of(folder: epath.Path) -> str | None:
    with contextlib.suppress(record.Damaged):
        return (record.read_if_there(folder / record.ENVIRONMENT) or {}).get("code_digest")
    return None


def resolve_code(workdir: epath.PathLike, digests: Iterable[str]) -> list[str]:
    """Full code digests from what `--accept-code` was given (8 or more first digits). Raises `UserError`."""
    digests, resolved = list(digests), list[str]()
    known = code_digests(workdir) if digests else Counter[str]()
    for digest in digests:
        matches = [full for full in known if full.startswith(digest)]
        if len(digest) < 8 or not matches:
            raise unknown("code digest of a run in this folder", digest, [full[:16] for full in known])
        if len(matches) > 1:
            raise UserError(f"code digest {digest!r} fits {len(matches)} of this folder; expected more of its digits")
        resolved += matches
    return resolved


def read_studies(workdir: epath.PathLike) -> list[dict[str, Any]]:
    """The entries of `study.json`. Raises `UserError` where the folder has none."""
    found = studies(workdir)
    if found is None:
        raise UserError(f"{epath.Path(workdir)} has no {STUDY}; expected the --workdir of a study or sweep")
    return found


def studies(workdir: epath.PathLike) -> list[dict[str, Any]] | None:
    """The entries of `study.json`; None where there is no such file."""
    file = storage.reach(workdir) / STUDY
    remedy = "remove it and launch its studies again"
    content = record.read_if_there(file, remedy=remedy)
    if content is None:
        return None
    if fault := _fault(content.get("studies")):
        raise record.Damaged(file, fault, remedy)
    found: list[dict[str, Any]] = content["studies"]
    return found


_TEXTS = ("question", "command")  # of an entry of study.json, besides its name and scale
_KNOWN = {"target_macs", "reason", "accepted_code"}  # what a run of an entry may have besides


def _fault(studies: Any) -> str:
    """What is wrong with the studies of a `study.json`; empty where nothing is.

    A run's id is the name of its folder: nothing else than digits may stand there, or the records of another place
    would be read.
    """
    if not isinstance(studies, list) or not all(isinstance(entry, dict) for entry in studies):
        return "it lists no studies"
    for entry in studies:
        texts = {key: entry.get(key) for key in ("name", "scale")} | {key: entry.get(key, "") for key in _TEXTS}
        if missing := [key for key, text in texts.items() if not isinstance(text, str)]:
            return f"a study has no {missing[0]}"
        axes, runs = entry.get("axes", []), entry.get("runs")
        if not isinstance(axes, list) or not all(isinstance(axis, str) for axis in axes):
            return f"study {entry['name']!r} has no list of axes"
        if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
            return f"study {entry['name']!r} lists no runs"
        if wrong := [run for run in runs if not _is_run(run)]:
            return f"study {entry['name']!r} has a run that is none: {str(wrong[0])[:120]}"
        labels = Counter((run["arm"], run["budget"], run["seed"]) for run in runs)
        if twice := [label for label, count in labels.items() if count > 1]:
            return f"study {entry['name']!r} has run {'/'.join(map(str, twice[0]))!r} twice"
    return ""


def _is_run(run: dict[str, Any]) -> bool:
    seed, target = run.get("seed"), run.get("target_macs")
    return (
        re.fullmatch("[0-9a-f]{16}", str(run.get("id"))) is not None
        and all(isinstance(run.get(key), str) for key in ("arm", "budget"))
        and isinstance(seed, int)
        and not isinstance(seed, bool)
        and run.keys() <= {"id", "arm", "budget", "seed"} | _KNOWN
        and (target is None or isinstance(target, int))
        and all(isinstance(run.get(key, ""), str) for key in ("reason", "accepted_code"))
    )


def read_timings(workdir: epath.PathLike) -> dict[str, dict[str, Any]]:
    """Run id -> what `launch.py bench --workdir` measured of its network's step; empty where that was never asked."""
    file = storage.reach(workdir) / TIMINGS
    remedy = "remove it, and `launch.py bench` makes it again"
    timings = record.read_if_there(file, remedy=remedy) or {}
    if not all(isinstance(row, dict) for row in timings.values()):
        raise record.Damaged(file, "a row is no object", remedy)
    return timings


def write_timings(workdir: epath.PathLike, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Put these into `timings.json`; those of other runs stay."""
    with lease.briefly(workdir):
        record.write_json(epath.Path(workdir) / TIMINGS, {**read_timings(workdir), **rows})


def write_study(workdir: epath.PathLike, entry: Mapping[str, Any]) -> None:
    """Put a study's entry into `study.json`, in place of the one with its name and scale; others stay.

    Of several processes that do so at once, none loses what another has written.
    """
    with lease.briefly(workdir):
        existing = studies(workdir) or []
        same = [(old["name"], old["scale"]) == (entry["name"], entry["scale"]) for old in existing]
        if any(same):
            listed = [dict(entry) if replaced else old for replaced, old in zip(same, existing, strict=True)]
        else:
            listed = [*existing, dict(entry)]
        record.write_json(epath.Path(workdir) / STUDY, {"studies": listed})
