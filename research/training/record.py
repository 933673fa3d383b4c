"""What a run leaves in its folder, written and read: config, environment, metrics, summary, TensorBoard events.

Every file is written whole under another name and then renamed; `metrics.jsonl` grows by one checksummed line at a
time, and a torn last line (the machine died while writing it) is dropped by the reader. Reports read only these.
"""

import itertools
import json
import math
import os
import platform
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from etils import epath

from research import catalogue, paths
from research import config as configs
from research.config import Config
from research.errors import UserError
from research.values import LEAST_CROP, MOST, MOST_SIDE

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
    """The folder to write to, which need not exist yet.

    Raises `UserError` where it cannot be one: it or a parent of it is a file, nothing can be written there, its name is
    none.
    """
    if not str(workdir):
        raise UserError("--workdir is empty; expected a folder")
    folder = epath.Path(workdir)
    if not is_remote(workdir):
        paths.check_folder(workdir, "workdir")
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


def read_json(path: epath.PathLike) -> dict[str, Any]:
    """Read a JSON record. Raises `UserError` when it is missing or is not JSON of an object."""
    values = read_if_there(path)
    if values is None:
        raise UserError(f"{epath.Path(path)} does not exist; expected a record of a run")
    return values


def read_if_there(path: epath.PathLike) -> dict[str, Any] | None:
    """Read a JSON record with the fewest questions to the file system, for whoever reads thousands; None: no file.

    Raises `UserError` when it is damaged.
    """
    if is_remote(path) and not epath.Path(path).exists():
        return None
    try:
        if is_remote(path):
            data = epath.Path(path).read_bytes()
        else:
            with open(path, "rb") as file:
                data = file.read()
        values = json.loads(data)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {paths.reason(error)}; expected a record of a run") from error
    except (ValueError, RecursionError) as error:  # not JSON, not even text, or lists in lists without end
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged: expected an object")
    return values


def config_of(folder: epath.PathLike) -> Config:
    """The config of a run's folder. Raises `UserError`; also where it names a Python file that lies in the folder."""
    file = epath.Path(folder) / CONFIG
    try:
        config = configs.from_dict(read_json(file))
    except UserError as error:
        raise UserError(str(error) if str(file) in str(error) else f"{file} is damaged: {error}") from error
    if not is_remote(folder):
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
        if not isinstance(record, dict) or "checksum" not in record:
            return None
        checksum = record.pop("checksum")
        return record if _checksum(record) == checksum else None
    except (ValueError, RecursionError):  # no JSON, a number that is none, lists in lists without end
        return None


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
    """Appends records to `metrics.jsonl` and TensorBoard; `start_step` drops what a dead run wrote beyond its state."""

    def __init__(self, folder: epath.PathLike, *, start_step: int) -> None:
        from tensorboardX import SummaryWriter

        self._path = epath.Path(folder) / METRICS
        kept = [record for record in read_metrics(self._path) if record["step"] <= start_step] if start_step else []
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
        for key, value in record.items():
            if isinstance(value, int | float) and key not in ("step", "wall_time"):
                self._board.add_scalar(key, value, record["step"])

    def close(self) -> None:
        """Flush and close the TensorBoard file."""
        self._board.close()
