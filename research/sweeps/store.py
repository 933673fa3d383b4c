"""The store: `WORKDIR/runs/<id>/` holds each run once, `WORKDIR/study.json` says which studies want which runs."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from research import storage
from research.errors import UserError, unknown
from research.sweeps.identity import RunIdentity, identity
from research.training import lease, record

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
    """One of `STATES`, as the folder's records say: no config yet is waiting, no summary yet is running."""
    summary = record.read_if_there(epath.Path(folder) / record.SUMMARY)
    if summary is not None:
        return summary["status"]
    return "waiting" if storage.read(epath.Path(folder) / record.CONFIG) is None else "running"


def locate(workdir: epath.PathLike, wanted: RunIdentity, accepted_code: Iterable[str] = ()) -> RunIdentity:
    """The identity whose results serve for `wanted`: itself, or the same run of an accepted code, where that finished.

    A finished run of the present code always wins. `accepted_code`: full code digests (`resolve_code`).
    """
    if state(run_folder(workdir, wanted.id)) != "finished":
        for code in accepted_code:
            older = identity(wanted.config_digest, code, wanted.data_fingerprint)
            if state(run_folder(workdir, older.id)) == "finished":
                return older
    return wanted


def code_digests(workdir: epath.PathLike) -> Counter[str]:
    """How many runs of the workdir were trained by which code (digest), from their `environment.json`."""
    files = [run_folder(workdir, name) / record.ENVIRONMENT for name in storage.names(epath.Path(workdir) / "runs")]
    found = storage.each(record.read_if_there, files, workdir)
    return Counter(environment["code_digest"] for environment in found if environment is not None)


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
    content = record.read_if_there(file)
    if content is None:
        return None
    if not isinstance(content.get("studies"), list):
        raise UserError(f"{file} is damaged: it lists no studies; remove it and launch the study again")
    found: list[dict[str, Any]] = content["studies"]
    return found


def read_timings(workdir: epath.PathLike) -> dict[str, dict[str, Any]]:
    """Run id -> what `launch.py bench --workdir` measured of its network's step; empty where that was never asked."""
    return record.read_if_there(storage.reach(workdir) / TIMINGS) or {}


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
