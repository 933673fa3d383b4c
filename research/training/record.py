"""What a run leaves in its folder, written and read: config, environment, metrics, summary.

Every file is written whole under another name and then renamed; `metrics.jsonl` grows by one checksummed line at a
time, and a torn last line (the machine died while writing it) is dropped by the reader. Reports read only these.
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


# What a run says of its images, so that they can be prepared without the data set.
IMAGES = ("shape", "crop_fraction", "interpolation", "mean", "std", "class_names", "multi_label")


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
    """Write JSON atomically; numbers that are not finite become null, as JSON has no word for them."""
    write_text(path, json.dumps(finite(values), indent=2, allow_nan=False) + "\n")


def read_json(path: epath.PathLike) -> Any:
    """Read a JSON record. Raises `UserError` when it is missing or is not JSON."""
    file = epath.Path(path)
    if not file.exists():
        raise UserError(f"{file} does not exist; expected a record of a run")
    try:
        return json.loads(file.read_text())
    except ValueError as error:  # not JSON, or not even text
        raise UserError(f"{file} is damaged: {error}") from error


def read_if_there(path: epath.PathLike) -> dict[str, Any] | None:
    """Read a JSON record with the fewest questions to the file system, for whoever reads thousands; None: no file.

    Raises `UserError` when it is damaged.
    """
    if is_remote(path):
        return read_json(path) if epath.Path(path).exists() else None
    try:
        with open(path, "rb") as file:
            values = json.loads(file.read())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged: expected an object")
    return values


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


def _checksum(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{zlib.crc32(text.encode()):08x}"


def metrics_line(values: Mapping[str, Any]) -> str:
    """One line of `metrics.jsonl`: the record with its checksum (CRC-32 of the sorted, compact JSON of the rest)."""
    record = finite(values)
    return json.dumps({**record, "checksum": _checksum(record)}, allow_nan=False) + "\n"


def read_metrics(path: epath.PathLike) -> list[dict[str, Any]]:
    """The verified records of a `metrics.jsonl`, without their checksums; [] when there is no file.

    A torn last line is dropped. Raises `UserError` when any other line is damaged, naming it.
    """
    file = epath.Path(path)
    if not file.exists():
        return []
    lines = file.read_bytes().decode(errors="replace").split("\n")
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record = _verified(line)
        if record is not None:
            records.append(record)
        elif number < len(lines):  # only what follows the last newline can be a torn write
            raise UserError(f"{file} line {number} is damaged: its checksum does not match")
    return records


def _verified(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    if not isinstance(record, dict) or "checksum" not in record:
        return None
    checksum = record.pop("checksum")
    return record if _checksum(record) == checksum else None


def read_run(path: epath.PathLike) -> Run:
    """All records of a run folder. Raises `UserError` when it has no `config.json` or a record is damaged."""
    folder = epath.Path(path)
    environment, summary = folder / ENVIRONMENT, folder / SUMMARY
    return Run(
        path=str(folder),
        config=read_json(folder / CONFIG),
        environment=read_json(environment) if environment.exists() else {},
        metrics=read_metrics(folder / METRICS),
        summary=read_json(summary) if summary.exists() else None,
    )


class MetricsWriter:
    """Appends records to `metrics.jsonl`; `start_step` drops what a dead run wrote beyond its state."""

    def __init__(self, folder: epath.PathLike, *, start_step: int) -> None:
        self._path = epath.Path(folder) / METRICS
        kept = [record for record in read_metrics(self._path) if record["step"] <= start_step] if start_step else []
        self._lines = [metrics_line(record) for record in kept]
        write_text(self._path, "".join(self._lines))

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record as a line of JSON."""
        if is_remote(self._path):
            self._lines.append(metrics_line(record))
            write_text(self._path, "".join(self._lines))
        else:
            with self._path.open("a") as file:
                file.write(metrics_line(record))
