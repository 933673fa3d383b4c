"""What a run leaves in its folder, written and read: config, environment, metrics, summary, TensorBoard events.

Every file is written whole under another name and then renamed; `metrics.jsonl` grows by one line at a time, and a torn
last line (the machine died while writing it) is dropped by the reader. Every record carries a checksum, which whoever
reads it verifies and takes off; records of older code have none. The config's, and how many records of metrics there
are, stand in the summary. Reports read only these.
"""

import json
import math
import os
import platform
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etils import epath

from research.errors import UserError

STATUSES = ("finished", "failed", "preempted")
CONFIG, ENVIRONMENT, METRICS, SUMMARY = "config.json", "environment.json", "metrics.jsonl", "summary.json"
CHECKSUM = "checksum"
VERIFIES = "verifies"  # in a summary: what it says of the other records
REMEDY = "launch its run again, which mends it"

# What a run says of its images, so that they can be prepared without the data set.
IMAGES = ("shape", "crop_fraction", "interpolation", "mean", "std", "class_names", "multi_label")


class Damaged(UserError):
    """A record (`path`) exists, but not as it was written. `remedy`: what to do."""

    def __init__(self, path: epath.PathLike, why: object, remedy: str = REMEDY) -> None:
        super().__init__(f"{path} is damaged: {why}; {remedy}")
        self.path = epath.Path(path)


@dataclass(frozen=True)
class Run:
    """One run folder as read: JSON values of its four records; `summary` is None while the run is going."""

    path: str
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    summary: dict[str, Any] | None


def check_workdir(workdir: epath.PathLike) -> epath.Path:
    """The folder to write to, which need not exist yet. Raises `UserError` where it or a parent of it is a file."""
    if not str(workdir):
        raise UserError("--workdir is empty; expected a folder")
    folder = epath.Path(workdir)
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                raise UserError(f"workdir {str(workdir)!r}: {str(place)!r} is a file; expected a folder")
            break
    return folder


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path is of an object store, whose files appear whole, are never appended to, and have no links."""
    return "://" in str(path)


def write_text(path: epath.PathLike, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, never part of it."""
    target = epath.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_remote(path):
        target.write_text(text)
        return
    partial = _partial(target)
    partial.write_text(text)
    partial.replace(target)


def create_text(path: epath.PathLike, text: str) -> bool:
    """Write `text` to a file that must not be there yet; False where it is. Of several at once, one succeeds."""
    target = epath.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_remote(path):
        import fsspec

        system, name = fsspec.core.url_to_fs(str(path))
        try:
            system.pipe_file(name, text.encode(), mode="create")
        except FileExistsError:
            return False
        return True
    partial = _partial(target)
    partial.write_text(text)
    try:
        os.link(partial, target)  # unlike an exclusive open it shows the whole text at once, also over a network
    except FileExistsError:
        return os.stat(partial).st_nlink == 2  # done, and only the server's answer was lost
    finally:
        partial.unlink()
    return True


def _partial(target: epath.Path) -> epath.Path:
    """A name beside `target` that no other thread or process writes to."""
    return target.parent / f".{target.name}.{platform.node()}-{os.getpid()}-{threading.get_ident()}.partial"


def remove_partial(folder: epath.PathLike) -> None:
    """Remove what processes that were killed had only begun to write."""
    for file in epath.Path(folder).glob(".*.partial"):
        file.unlink(missing_ok=True)


def write_json(path: epath.PathLike, values: Any) -> None:
    """Write JSON atomically, an object with its checksum; numbers that are not finite become null."""
    write_text(path, to_text(values))


def to_text(values: Any) -> str:
    """What `write_json` writes."""
    held = sealed(finite(values)) if isinstance(values, Mapping) else finite(values)
    return json.dumps(held, indent=2, allow_nan=False) + "\n"


def from_text(text: str | bytes) -> Any:
    """JSON values of what `write_json` wrote, without the checksum. Raises `ValueError`: not JSON, another checksum."""
    values = json.loads(text)
    return opened(values) if isinstance(values, dict) else values


def read_json(path: epath.PathLike, *, remedy: str = REMEDY) -> Any:
    """Read a JSON record. Raises `UserError` when it is missing, `Damaged` when it is not what was written."""
    file = epath.Path(path)
    if not file.exists():
        raise UserError(f"{file} does not exist; expected a record of a run")
    try:
        return from_text(file.read_bytes())
    except ValueError as error:  # not JSON, or not even text
        raise Damaged(file, error, remedy) from error


def read_if_there(path: epath.PathLike) -> dict[str, Any] | None:
    """Read a JSON record with the fewest questions to the file system, for whoever reads thousands; None: no file.

    Raises `Damaged`.
    """
    if is_remote(path):
        return read_json(path) if epath.Path(path).exists() else None
    try:
        with open(path, "rb") as file:
            values = from_text(file.read())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Damaged(path, error) from error
    if not isinstance(values, dict):
        raise Damaged(path, "expected an object")
    return values


def read_summary(folder: epath.PathLike) -> dict[str, Any] | None:
    """The summary of a run folder; None while the run is going. Raises `Damaged`."""
    path = epath.Path(folder) / SUMMARY
    summary = read_if_there(path)
    if summary is not None and summary.get("status") not in STATUSES:
        raise Damaged(path, "it has no status")
    return summary


def described(folder: epath.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a run's environment says of its network and of how its images were prepared. Raises `UserError`."""
    file = epath.Path(folder) / ENVIRONMENT
    environment = read_json(file)
    network, images = (environment.get(key) if isinstance(environment, dict) else None for key in ("network", "images"))
    if not isinstance(network, dict) or not isinstance(images, dict) or not images.keys() >= set(IMAGES):
        raise UserError(f"{file} does not say how images were prepared; train the run anew")
    return network, images


def finite(value: Any) -> Any:
    """JSON values with None for each number that is not finite."""
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def checksum(values: Mapping[str, Any]) -> str:
    """CRC-32 (hex) of the sorted, compact JSON of values."""
    return f"{zlib.crc32(json.dumps(values, sort_keys=True, separators=(',', ':')).encode()):08x}"


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values with their checksum."""
    return {**values, CHECKSUM: checksum(values)}


def opened(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values whose checksum has been verified, without it; those of older code that have none, as they are.

    Raises `ValueError` where it is another's.
    """
    *held, last = values.items() or [("", None)]
    rest = {key: value for key, value in values.items() if key != CHECKSUM}
    if CHECKSUM in values:
        if values[CHECKSUM] != checksum(rest):
            raise ValueError("its checksum does not match")
    elif last[1] == checksum(dict(held)):  # damage to the word itself must not make it a record of older code
        raise ValueError("its checksum has another name")
    return rest


def metrics_line(values: Mapping[str, Any]) -> str:
    """One line of `metrics.jsonl`: the record with its checksum."""
    return json.dumps(sealed(finite(values)), allow_nan=False) + "\n"


def sound_metrics(path: epath.PathLike) -> tuple[list[dict[str, Any]], str]:
    """The verified records of a `metrics.jsonl` before the first damaged line, and what is wrong there ("": nothing).

    Without their checksums; [] when there is no file. A torn last line is dropped.
    """
    file = epath.Path(path)
    if not file.exists():
        return [], ""
    lines = file.read_bytes().decode(errors="replace").split("\n")
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record = _verified(line)
        if record is not None:
            records.append(record)
        elif number < len(lines):  # only what follows the last newline can be a torn write
            return records, f"the checksum of line {number} does not match"
    return records, ""


def read_metrics(path: epath.PathLike) -> list[dict[str, Any]]:
    """The verified records of a `metrics.jsonl`, without their checksums; [] when there is no file.

    A torn last line is dropped. Raises `Damaged` when any other line is damaged, naming it.
    """
    records, wrong = sound_metrics(path)
    if wrong:
        raise Damaged(path, wrong)
    return records


def _verified(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
        return opened(record) if isinstance(record, dict) and CHECKSUM in record else None
    except ValueError:
        return None


def read_config(folder: epath.PathLike) -> dict[str, Any]:
    """The JSON values of a run's config. Raises `UserError` when there is none, `Damaged`."""
    return _config(epath.Path(folder), read_summary(folder))


def _config(folder: epath.Path, summary: Mapping[str, Any] | None) -> dict[str, Any]:
    config = read_json(folder / CONFIG)
    known = (summary or {}).get(VERIFIES, {}).get("config")
    if not isinstance(config, dict) or (known is not None and known != checksum(config)):
        raise Damaged(folder / CONFIG, "it is not what the run's summary says")
    return config


def read_run(path: epath.PathLike) -> Run:
    """All records of a run folder. Raises `UserError` when it has no `config.json`, `Damaged`."""
    folder = epath.Path(path)
    summary = read_summary(folder)  # first: the others are whole once it is there
    config, metrics = _config(folder, summary), read_metrics(folder / METRICS)
    environment = read_if_there(folder / ENVIRONMENT)
    verifies = (summary or {}).pop(VERIFIES, {})
    if summary is not None and summary["status"] == "finished" and verifies:
        if environment is None:
            raise Damaged(folder / ENVIRONMENT, "it is gone")
        if len(metrics) != verifies["metrics"]:
            raise Damaged(folder / METRICS, f"{len(metrics)} records of {verifies['metrics']}")
    return Run(str(folder), config, environment or {}, metrics, summary)


class MetricsWriter:
    """Appends records to `metrics.jsonl` and TensorBoard; `start_step` drops what a dead run wrote beyond its state."""

    def __init__(self, folder: epath.PathLike, *, start_step: int) -> None:
        from tensorboardX import SummaryWriter

        self._path = epath.Path(folder) / METRICS
        before, _ = sound_metrics(self._path)
        kept = [record for record in before if record["step"] <= start_step] if start_step else []
        self.count = len(kept)  # records that are there
        self._lines = [metrics_line(record) for record in kept]
        write_text(self._path, "".join(self._lines))
        purge = {"purge_step": start_step + 1} if start_step else {}
        self._board = SummaryWriter(str(epath.Path(folder) / "tensorboard"), write_to_disk=True, **purge)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record (it has a `step`): a line of JSON, and its numbers as TensorBoard scalars."""
        if is_remote(self._path):
            self._lines.append(metrics_line(record))
            write_text(self._path, "".join(self._lines))
        else:
            with self._path.open("a") as file:
                file.write(metrics_line(record))
        self.count += 1
        for key, value in record.items():
            if isinstance(value, int | float) and key not in ("step", "wall_time"):
                self._board.add_scalar(key, value, record["step"])

    def close(self) -> None:
        """Flush and close the TensorBoard file."""
        self._board.close()
