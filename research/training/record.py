"""What a run leaves in its folder, written and read: config, environment, metrics, summary.

Every file appears whole (`storage`). `metrics.jsonl` grows by one line at a time, and a torn last line (the machine
died while writing it) is dropped by the reader; on an object store it is written anew, but not for each line. Every
record carries a checksum, which whoever reads it verifies and takes off; records of older code have none. The config's,
and how many records of metrics there are, stand in the summary. Reports read only these.
"""

import itertools
import json
import logging
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from etils import epath

from research import catalogue, paths, storage
from research import config as configs
from research.config import Config
from research.errors import UserError
from research.values import LEAST_CROP, MOST, MOST_SIDE

_log = logging.getLogger(__name__)

STATUSES = ("finished", "failed", "preempted")
CONFIG, ENVIRONMENT, METRICS, SUMMARY = "config.json", "environment.json", "metrics.jsonl", "summary.json"
CHECKSUM = "checksum"
VERIFIES = "verifies"  # in a summary: what it says of the other records
REMEDY = "launch its run again, which mends it"
EVERY = 10.0  # seconds at least between two times that the records of a run on an object store are written
SHARE = 50  # and so many times as long as the last time took, so that a long run is not held up by its own length

# What a run says of its images, so that they can be prepared without the data set.
IMAGES = ("shape", "crop_fraction", "interpolation", "mean", "std", "class_names", "multi_label")


class Damaged(UserError):
    """A record (`path`) exists, but not as it was written. `remedy`: what to do."""

    def __init__(self, path: epath.PathLike, why: object, remedy: str = REMEDY) -> None:
        super().__init__(f"{path} is damaged: {why}; {remedy}")
        self.path, self.why = epath.Path(path), why


@dataclass(frozen=True)
class Run:
    """One run folder as read: JSON values of its four records; `summary` is None while the run is going."""

    path: str
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    summary: dict[str, Any] | None


def check_workdir(workdir: epath.PathLike) -> epath.Path:
    """The folder to write to, which need not exist yet.

    Raises `UserError` where it cannot be one: it or a parent of it is a file, nothing can be written there, its name is
    none, or its store cannot be used.
    """
    if not str(workdir):
        raise UserError("--workdir is empty; expected a folder")
    folder = storage.reach(workdir)
    if storage.is_remote(folder):
        storage.check_creation(folder)
    else:
        paths.check_folder(workdir, "workdir")
    return folder


def write_json(path: epath.PathLike, values: Mapping[str, Any]) -> None:
    """Write JSON atomically, with its checksum; numbers that are not finite become null: JSON has no word for them."""
    storage.write(path, to_text(values))


def to_text(values: Mapping[str, Any]) -> str:
    """What `write_json` writes."""
    return json.dumps(sealed(finite(values)), indent=2, allow_nan=False) + "\n"


def from_text(text: str | bytes) -> dict[str, Any]:
    """Values of what `write_json` wrote, without the checksum. Raises `ValueError`: no such JSON, another checksum."""
    try:
        values = json.loads(text if isinstance(text, str) else text.decode())
    except RecursionError as error:  # lists in lists without end
        raise ValueError(str(error)) from error
    if not isinstance(values, dict):
        raise ValueError("expected an object")
    return opened(values)


def read_json(path: epath.PathLike, *, remedy: str = REMEDY) -> dict[str, Any]:
    """Read a JSON record. Raises `UserError` when it is missing, `Damaged` when it is not what was written."""
    values = read_if_there(path, remedy=remedy)
    if values is None:
        raise UserError(f"{path} does not exist; expected a record of a run")
    return values


def read_if_there(path: epath.PathLike, *, remedy: str = REMEDY) -> dict[str, Any] | None:
    """Read a JSON record with the fewest questions to the file system; None: no file.

    Raises `Damaged`, and `UserError` where it cannot be read.
    """
    try:
        content = storage.read(path)
        return None if content is None else from_text(content)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {paths.reason(error)}; expected a record of a run") from error
    except ValueError as error:  # not JSON, or not even text
        raise Damaged(path, error, remedy) from error


def read_summary(folder: epath.PathLike) -> dict[str, Any] | None:
    """The summary of a run folder; None while the run is going. Raises `Damaged`."""
    path = epath.Path(folder) / SUMMARY
    summary = read_if_there(path)
    if summary is not None and summary.get("status") not in STATUSES:
        raise Damaged(path, "it has no status")
    return summary


def config_of(folder: epath.PathLike) -> Config:
    """The config of a run's folder. Raises `UserError`; also where it names a Python file that lies in the folder."""
    file = epath.Path(folder) / CONFIG
    try:
        config = configs.from_dict(read_config(folder))
    except UserError as error:
        raise UserError(str(error) if str(file) in str(error) else f"{file} is damaged: {error}") from error
    if not storage.is_remote(folder):
        catalogue.refuse_inside(folder, (config.model.name, config.task.loss), str(file))
    return config


def described(folder: epath.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a run's environment says of its network and of how its images were prepared. Raises `UserError`."""
    file = epath.Path(folder) / ENVIRONMENT
    environment = read_json(file)
    network, images = environment.get("network"), environment.get("images")
    if not isinstance(network, dict) or not isinstance(images, dict) or not images.keys() >= set(IMAGES):
        raise UserError(f"{file} does not say how images were prepared; train the run anew")
    for key, found, sound in itertools.chain(_network(network), _images(images)):
        if not sound:
            raise UserError(f"{file} is damaged: {key} is {json.dumps(found)[:80]}; train the run anew")
    return network, images


def _network(network: Mapping[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """What a record says of a network: key, value, and whether that can be."""
    fields, higher = network.get("fields"), network.get("higher_is_better")
    classes: Any = fields.get("num_classes") if isinstance(fields, dict) else None
    yield "network.fields.num_classes", classes, _is_number(classes, int) and 0 <= classes <= MOST
    yield "network.higher_is_better", higher, isinstance(higher, bool)


def _images(images: Mapping[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """What a record says of images: key, value, and whether that can be."""
    shape, crop, classes = images["shape"], images["crop_fraction"], images["class_names"]
    sides = isinstance(shape, list) and len(shape) == 3 and all(_is_number(side, int) for side in shape)
    sides = sides and all(1 <= side <= MOST_SIDE for side in shape[:2]) and shape[2] in (1, 3, 4)
    yield "images.shape", shape, sides
    yield "images.crop_fraction", crop, _is_number(crop) and LEAST_CROP <= crop <= 1
    yield "images.interpolation", images["interpolation"], images["interpolation"] in ("bilinear", "bicubic")
    for key, least in (("mean", -math.inf), ("std", 0.0)):
        found = images[key]
        sound = isinstance(found, list) and all(_is_number(n) and n > least for n in found)
        yield f"images.{key}", found, sound and len(found) == shape[2]
    yield "images.class_names", classes, isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    yield "images.multi_label", images["multi_label"], isinstance(images["multi_label"], bool)


def _is_number(value: Any, kind: type = float) -> bool:
    return isinstance(value, kind if kind is int else (int, float)) and not isinstance(value, bool) and value == value


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
    content = storage.read(path)
    if content is None:
        return [], ""
    lines = content.decode(errors="replace").split("\n")
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
    except (ValueError, RecursionError):  # no JSON, lists in lists without end
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
    """Appends records to `metrics.jsonl`; `start_step` drops what a dead run wrote beyond its state.

    `check` is called before anything is written. On an object store, which has no appends, the file is written anew
    from time to time and by `flush`.
    """

    def __init__(self, folder: epath.PathLike, *, start_step: int, check: Callable[[], None] = lambda: None) -> None:
        self._path, self._check = epath.Path(folder) / METRICS, check
        self._remote = storage.is_remote(folder)
        before, _ = sound_metrics(self._path)
        kept = [record for record in before if record["step"] <= start_step] if start_step else []
        self.count = len(kept)  # records that are there
        self._lines = [metrics_line(record) for record in kept]
        self._write()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record (it has a `step`) as a line of JSON."""
        if self._remote:
            self._lines.append(metrics_line(record))
            self._is_behind = True
            if time.monotonic() >= self._due:
                self._write_if_possible()
        else:
            self._check()
            with self._path.open("a") as file:
                file.write(metrics_line(record))
        self.count += 1

    def flush(self) -> None:
        """Have all records in the file: before anything is committed that counts on them."""
        if self._is_behind:
            self._write()

    def _write_if_possible(self) -> None:
        try:
            self._check()
            self._write()
        except OSError as error:  # the store stumbles; nothing counts on the records before `flush`
            _log.warning("%s is written later: %s", self._path, error)
            self._due = time.monotonic() + EVERY

    def _write(self) -> None:
        began = time.monotonic()
        storage.write(self._path, "".join(self._lines))
        took = time.monotonic() - began
        self._is_behind, self._due = False, began + max(EVERY, SHARE * took)
