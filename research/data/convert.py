"""TFRecord sets as array_record, record by record and without TensorFlow; and how such sets are written.

TFDS keeps the same serialized tf.train.Example in both formats, so of a prepared set the bytes are copied. The folders
that TensorFlow's ImageNet scripts wrote hold other features than TFDS's, so their image bytes and labels are.
"""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from research import paths
from research.data import tfds, tfrecord
from research.errors import UserError, nearest

Form = Literal["array_record", "tfrecord"]
Counts = Mapping[str, Sequence[tuple[int, int]]]  # split -> (records, bytes of records) of each file
Report = Callable[[str], None]

_SPLIT = re.compile(r"(train|validation|val|test)[-_.]")
_PAUSE = 5.0  # seconds between two lines of progress


@dataclass(frozen=True)
class Keys:
    """Where raw records hold what: the features' names, and the number of the first class."""

    image: str = "image/encoded"
    label: str = "image/class/label"
    first_label: int = 1  # TensorFlow's ImageNet scripts keep 0 for a background class


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into, which becomes `folder` at the end. Raises `UserError` if that exists."""
    if paths.answer(folder.exists):
        raise UserError(f"{folder} exists; move it away, or choose another place")
    paths.check_folder(folder, "the set")
    begun = folder.parent / f"incomplete.{folder.name}"
    made = [place for place in folder.parents if not place.exists()]  # to be removed again where nothing comes of it
    try:
        shutil.rmtree(begun, ignore_errors=True)  # of a conversion that was killed
        begun.mkdir(parents=True)
        yield begun
        begun.rename(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror} ({error.filename})") from error
    finally:
        shutil.rmtree(begun, ignore_errors=True)
        for place in made:
            with contextlib.suppress(OSError):  # not empty: what was to be is there
                place.rmdir()


def example(image: bytes, label: int) -> bytes:
    """An encoded image and its class as TFDS serializes them (features `image` and `label`)."""
    from tensorflow_datasets.proto import tf_example_pb2

    made = tf_example_pb2.Example()
    made.features.feature["image"].bytes_list.value.append(image)
    made.features.feature["label"].int64_list.value.append(label)
    return made.SerializeToString(deterministic=True)


def write(file: str, records: Iterable[bytes], form: Form = "array_record") -> tuple[int, int]:
    """Write a file as TFDS does; returns how many records and how many bytes of them there were."""
    count = size = 0

    def counted() -> Iterator[bytes]:
        nonlocal count, size
        for record in records:
            count, size = count + 1, size + len(record)
            yield record

    if form == "tfrecord":
        tfrecord.write(file, counted())
        return count, size
    from array_record.python import array_record_module

    writer = array_record_module.ArrayRecordWriter(file, "group_size:1")  # a group is read whole: one record, then
    try:
        for record in counted():
            writer.write(record)
    finally:
        writer.close()
    return count, size


def file_name(name: str, split: str, number: int, count: int, form: Form = "array_record") -> str:
    """Of file `number` of `count`, as TFDS names it."""
    return f"{name}-{split}.{form}-{number:05d}-of-{count:05d}"


def describe(folder: Path, name: str, features: Any, counts: Counts, about: str) -> None:
    """Write what makes files named by `file_name` in `folder` a prepared set, version 1.0.0: features and sizes."""
    import tensorflow_datasets

    template = tensorflow_datasets.core.ShardedFileTemplate(
        folder, "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", dataset_name=name
    )
    splits = [
        tensorflow_datasets.core.SplitInfo(
            split, [records for records, _ in files], sum(size for _, size in files), template.replace(split=split)
        )
        for split, files in counts.items()
    ]
    tensorflow_datasets.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=splits,
        version="1.0.0",
        filename_template=template,
        check_data=False,  # it would, by way of TensorFlow
        description=about,
    )


def photographs(class_names: Sequence[str] | int) -> dict[str, Any]:
    """TFDS's features of `example`s: RGB images of any size, classes by name or by how many there are."""
    from tensorflow_datasets import features

    label = {"num_classes": class_names} if isinstance(class_names, int) else {"names": list(class_names)}
    return {"image": features.Image(shape=(None, None, 3)), "label": features.ClassLabel(**label)}


class _Progress:
    """A line a split, said from time to time and when all is done: of a set that is refused at once, none."""

    def __init__(self, report: Report) -> None:
        self._report, self._last, self._lines = report, time.monotonic(), dict[str, str]()

    def __call__(self, split: str, done: int, count: int, records: int) -> None:
        self._lines[split] = f"{split}: {done:,} of {count:,} files, {records:,} records"
        if time.monotonic() - self._last >= _PAUSE:
            self.say()

    def say(self) -> None:
        """What has not been said yet."""
        for line in self._lines.values():
            self._report(line)
        self._last, self._lines = time.monotonic(), {}


def prepared(source: Path, data_dir: str | None, report: Report) -> str:
    """Copy a prepared TFRecord set into `data_dir`, as array_record; returns where it is. Raises `UserError`."""
    info = tfds.described(os.fspath(source)).info
    if info.file_format.value != "tfrecord":
        raise UserError(
            f"{source} is prepared as {info.file_format.value}; expected tfrecord, which alone is converted"
        )
    target = Path(os.fspath(tfds.data_dir(data_dir)), *info.full_name.split("/"))
    progress = _Progress(report)
    with whole(target) as folder:
        for split, stored in info.splits.items():
            named = stored.filename_template.replace(data_dir=folder, filetype_suffix="array_record")
            files = sorted(named.sharded_filepaths(stored.num_shards))
            done = 0
            for number, (old, new, count) in enumerate(
                zip(stored.filepaths, files, stored.shard_lengths, strict=True), 1
            ):
                records = tfrecord.Records((os.fspath(old),), (count,))
                done += write(os.fspath(new), map(records.read, range(len(records))))[0]
                progress(split, number, stored.num_shards, done)
        for file in source.iterdir():
            if file.is_file() and ".tfrecord" not in file.name:
                shutil.copy(file, folder / file.name)
        metadata = folder / "dataset_info.json"
        metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"fileFormat": "array_record"}, indent=2))
    progress.say()
    return os.fspath(target)


def _by_split(source: Path) -> dict[str, list[Path]]:
    """Files of each split, by their names' prefix. Raises `UserError`."""
    found: dict[str, list[Path]] = {}
    for file in sorted(source.iterdir()):
        if (match := _SPLIT.match(file.name)) and file.is_file():
            found.setdefault("validation" if match[1] == "val" else match[1], []).append(file)
    if "train" not in found:
        raise UserError(
            f"{source} has no train-*; expected a prepared set (with dataset_info.json), or files of TFRecords named "
            "train-*, and validation-* or test-*"
        )
    return found


def _class_names(file: str | None) -> list[str] | None:
    if file is None:
        return None
    try:
        names = Path(file).expanduser().read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--classes {file} cannot be read: {error}; expected a class name a line") from None
    names = [name.strip() for name in names if name.strip()]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"--classes {file} has {min(twice)!r} more than once; expected a different name a line")
    return names


def _image_and_label(data: bytes, keys: Keys, where: str) -> tuple[bytes, int]:
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        features = tf_example_pb2.Example.FromString(data).features.feature
    except DecodeError as error:
        raise UserError(
            f"{where} is no tf.train.Example; expected TensorFlow's records of images and labels"
        ) from error
    for option, key, kind in (("--image-key", keys.image, "bytes_list"), ("--label-key", keys.label, "int64_list")):
        if key not in features or len(getattr(features[key], kind).value) != 1:
            names = ", ".join(nearest(key, features) or sorted(features)[:8]) or "none"
            raise UserError(f"{where} has no one {key!r} of type {kind}; expected {option} to name one of: {names}")
    return features[keys.image].bytes_list.value[0], features[keys.label].int64_list.value[0] - keys.first_label


def raw(
    source: Path, data_dir: str | None, name: str, report: Report, *, keys: Keys = Keys(), classes: str | None = None
) -> str:
    """Make raw TFRecords a prepared array_record set `name` in `data_dir`; returns where it is. Raises `UserError`.

    `classes`: file with the name of a class a line, in the order of the labels; without it classes are numbers.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"--name is {name!r}; expected lower-case letters, digits and underscores, as in my_photos")
    class_names, by_split = _class_names(classes), _by_split(source)
    highest, progress = -1, _Progress(report)
    target = Path(os.fspath(tfds.data_dir(data_dir)), name, "1.0.0")

    def converted(records: tfrecord.Records) -> Iterator[bytes]:
        nonlocal highest
        for number in range(len(records)):
            where = f"record {number} of {records.files[0]}"
            image, label = _image_and_label(records.read(number), keys, where)
            if not 0 <= label < (len(class_names) if class_names else 2**31):
                last = f" to {len(class_names) - 1 + keys.first_label}, as --classes says" if class_names else ""
                raise UserError(
                    f"{where} has label {label + keys.first_label}; expected {keys.first_label}{last or ' or more'} "
                    "(--first-label is the number of the first class)"
                )
            highest = max(highest, label)
            yield example(image, label)

    with whole(target) as folder:
        counts: dict[str, list[tuple[int, int]]] = {}
        for split, files in by_split.items():
            counts[split] = []
            for number, file in enumerate(files):
                records = tfrecord.Records((os.fspath(file),))
                new = folder / file_name(name, split, number, len(files))
                counts[split].append(write(os.fspath(new), converted(records)))
                progress(split, number + 1, len(files), sum(count for count, _ in counts[split]))
        describe(folder, name, photographs(class_names or highest + 1), counts, f"Converted from {source}.")
    progress.say()
    return os.fspath(target)
