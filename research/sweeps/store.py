"""The store: `WORKDIR/runs/<id>/` holds each run once, `WORKDIR/study.json` says which studies want which runs."""

import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from research.errors import UserError, unknown
from research.sweeps.identity import RunIdentity, identity
from research.training import record

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
        return summary["status"]
    return "running" if (epath.Path(folder) / record.CONFIG).exists() else "waiting"


def locate(workdir: epath.PathLike, wanted: RunIdentity, accepted_code: Iterable[str] = ()) -> RunIdentity:
    """The identity whose results serve for `wanted`: itself, or the same run of an accepted code, where that finished.

    A finished run of the present code always wins. `accepted_code`: full code digests (`resolve_code`).
    """
    if state(run_folder(workdir, wanted.id)) != "finished":
        for code in accepted_code:
            older = identity(wanted.config_digest, code, wanted.data_fingerprint)
            folder = run_folder(workdir, older.id)
            if _is_soundly_finished(folder):
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
    runs, found = epath.Path(workdir) / "runs", Counter[str]()
    for folder in sorted(runs.iterdir()) if runs.exists() else ():
        with contextlib.suppress(record.Damaged):
            found.update(filter(None, [(record.read_if_there(folder / record.ENVIRONMENT) or {}).get("code_digest")]))
    return found


def resolve_code(workdir: epath.PathLike, digests: Iterable[str]) -> list[str]:
    """Full code digests from what `--accept-code` was given (8 or more first digits). Raises `UserError`."""
    digests = list(digests)
    known, resolved = code_digests(workdir) if digests else Counter[str](), list[str]()
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
    file = epath.Path(workdir) / STUDY
    if not file.exists():
        raise UserError(f"{epath.Path(workdir)} has no {STUDY}; expected the --workdir of a study or sweep")
    remedy = "remove it and launch its studies again"
    content = record.read_json(file, remedy=remedy)
    if not isinstance(content, dict) or not isinstance(content.get("studies"), list):
        raise record.Damaged(file, "it lists no studies", remedy)
    return content["studies"]


def read_timings(workdir: epath.PathLike) -> dict[str, dict[str, Any]]:
    """Run id -> what `launch.py bench --workdir` measured of its network's step; empty where that was never asked."""
    file = epath.Path(workdir) / TIMINGS
    return record.read_json(file, remedy="remove it and measure again") if file.exists() else {}


def write_timings(workdir: epath.PathLike, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Put these into `timings.json`; those of other runs stay."""
    record.write_json(epath.Path(workdir) / TIMINGS, {**read_timings(workdir), **rows})


def write_study(workdir: epath.PathLike, entry: Mapping[str, Any]) -> None:
    """Put a study's entry into `study.json`, in place of the one with its name and scale; others stay."""
    existing = read_studies(workdir) if (epath.Path(workdir) / STUDY).exists() else []
    same = [(old["name"], old["scale"]) == (entry["name"], entry["scale"]) for old in existing]
    if any(same):
        studies = [dict(entry) if replaced else old for replaced, old in zip(same, existing, strict=True)]
    else:
        studies = [*existing, dict(entry)]
    record.write_json(epath.Path(workdir) / STUDY, {"studies": studies})
