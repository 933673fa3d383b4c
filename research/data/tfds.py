"""Any prepared TensorFlow-Datasets set, by random access: as array_record, parquet or TFRecord. Nothing is downloaded.

The prepared folder is looked for first: an unprepared set would otherwise be downloaded, or fail with an error about
TFRECORD. TensorFlow is never imported, and tensorflow_datasets (0.6 s) only where it is used.
"""

import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from etils import epath

from research import errors, paths
from research.config import DataConfig
from research.data import tfrecord
from research.data.stored import Encoded, Examples, Source, Split, Stored
from research.data.transforms import UnreadableImage
from research.errors import UserError

_NAME = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.\-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_EVALUATION = ("test", "validation", "val")  # the first of these that there is
_FEATURES = "tensorflow_datasets."  # where the classes of all features are
_CHUNK = 512  # records asked for at once: much faster than one by one


def data_dir(path: str | None) -> epath.Path:
    """Where prepared sets are: `data.path`, else TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return epath.Path(path or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def registered() -> list[str]:
    """Names that tensorflow_datasets can prepare (its own, no community ones)."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def base_name(name: str) -> str | None:
    """`NAME` of `NAME`, `NAME/CONFIG`, `NAME:VERSION` or `NAME/CONFIG:VERSION`; None when it is none of these."""
    match = _NAME.fullmatch(name)
    return match["name"] if match else None


def _versions(folder: epath.Path) -> dict[tuple[int, ...], epath.Path]:
    if not paths.answer(folder.is_dir):
        return {}
    found = [f for f in folder.iterdir() if _VERSION.fullmatch(f.name) and (f / "dataset_info.json").exists()]
    return {tuple(map(int, f.name.split("."))): f for f in found}


def prepared(name: str, path: str | None) -> epath.Path | None:
    """Folder of the prepared set that `name` means (its newest version unless it says which), None if there is none.

    Raises `UserError` when the set was prepared with configs and `name` says none.
    """
    match = _NAME.fullmatch(name)
    if not match:
        return None
    folder = data_dir(path) / match["name"]
    has_configs = not match["config"] and paths.answer(folder.is_dir)
    configs = [f.name for f in folder.iterdir() if _versions(f)] if has_configs else []
    versions = _versions(folder / match["config"] if match["config"] else folder)
    if match["version"]:
        return versions.get(tuple(map(int, match["version"].split("."))))
    if configs and not versions:
        raise UserError(
            f"data set {name!r} is prepared with configs; expected one of: "
            f"{', '.join(f'{name}/{config}' for config in sorted(configs))}"
        )
    return versions[max(versions)] if versions else None


def command(name: str, path: str | None) -> str:
    """The command that prepares a set where `data.path` says."""
    return f"python -m research.data prepare {name}" + (f" --data-dir {path}" if path else "")


def _folder(cfg: DataConfig) -> epath.Path:
    folder = prepared(cfg.name, cfg.path)
    if folder is None:
        where = data_dir(cfg.path)
        raise UserError(f"data set {cfg.name!r} is not prepared in {where}; run: {command(cfg.name, cfg.path)}")
    return folder


def _check_features(file: epath.Path) -> None:
    """Raise `UserError` where the features are of another library than TFDS: it imports the module that each names."""
    try:
        waiting: list[Any] = [json.loads(file.read_text())]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {error}; expected the features of a prepared set") from error
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for name in (value[key] for key in ("pythonClassName", "type") if key in value):
                if not (isinstance(name, str) and name.startswith(_FEATURES)):
                    raise UserError(f"{file} names {str(name)[:80]!r}; expected features of {_FEATURES}")
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value


@functools.lru_cache(maxsize=8)
def _builder(folder: str) -> Any:
    builder = described(folder)
    stored_as = builder.info.file_format.value
    if stored_as not in ("array_record", "parquet", "tfrecord"):
        raise UserError(
            f"{folder} is prepared as {stored_as}, which has no random access; expected array_record: "
            f"move it away and run {command(builder.info.full_name.rsplit('/', 1)[0], None)}"
        )
    return builder


def described(folder: str) -> Any:
    """TFDS's builder of a prepared set, whose files say all about it. Raises `UserError` where these are damaged."""
    import tensorflow_datasets as tfds

    _check_features(epath.Path(folder) / "features.json")
    try:
        builder = tfds.builder_from_directory(folder)
        for split in builder.info.splits.values():  # some of it is read, and judged, when it is asked for
            list(zip(split.filepaths, split.shard_lengths, strict=True))
    except Exception as error:  # what its readers of JSON and of protocol buffers raise, of many types
        raise UserError(
            f"{folder} is no prepared set, or its dataset_info.json or features.json is damaged: "
            f"{errors.described(error)}"
        ) from error
    return builder


def _only(kind: str, found: list[str], preferred: list[str], folder: object) -> str:
    """The feature to use: the only one, else the first preferred one. Raises `UserError`."""
    chosen = found if len(found) == 1 else [key for key in preferred if key in found]
    if not chosen:
        raise UserError(
            f"{folder} has {len(found)} {kind} features ({', '.join(sorted(found)) or 'none'}); expected one"
        )
    return chosen[0]


def _keys(builder: Any) -> tuple[str, str, bool]:
    """(image key, label key, whether an example has several labels) from the features of the set."""
    from tensorflow_datasets import features as kinds

    features, pair = builder.info.features, builder.info.supervised_keys or ()
    images = [key for key, kind in features.items() if isinstance(kind, kinds.Image)]
    single = [key for key, kind in features.items() if isinstance(kind, kinds.ClassLabel)]
    several = [
        key
        for key, kind in features.items()
        if isinstance(kind, kinds.Sequence) and isinstance(kind.feature, kinds.ClassLabel)
    ]
    image = _only("image", images, [*(k for k in pair[:1] if isinstance(k, str)), "image"], builder.data_dir)
    label = _only(
        "label", single or several, [*(k for k in pair[1:2] if isinstance(k, str)), "label"], builder.data_dir
    )
    return image, label, not single


def _splits(builder: Any, evaluation: str | None) -> dict[str, str | None]:
    names = list(builder.info.splits)
    if "train" not in names:
        raise UserError(f"{builder.data_dir} has no split train; it has: {', '.join(names)}")
    found = [name for name in ([evaluation] if evaluation else _EVALUATION) if name in names]
    return {"train": "train", "eval": found[0] if found else None}


def _describe(cfg: DataConfig, evaluation: str | None = None) -> Stored:
    builder = _builder(os.fspath(_folder(cfg)))
    image, label, several = _keys(builder)
    kind = builder.info.features[image]
    classes = builder.info.features[label].feature if several else builder.info.features[label]
    if np.dtype(kind.np_dtype) != np.uint8:
        raise UserError(f"{builder.data_dir} holds {kind.np_dtype} images; expected uint8")
    if kind.shape[-1] not in (None, 1, 3, 4):
        raise UserError(f"{builder.data_dir} holds images of {kind.shape[-1]} channels; expected 1, 3 or 4")
    splits = _splits(builder, evaluation)
    sizes = {split: builder.info.splits[name].num_examples if name else 0 for split, name in splits.items()}
    return Stored(
        shape=(kind.shape[0], kind.shape[1], kind.shape[-1] or 3),
        class_names=tuple(map(str, classes.names or range(classes.num_classes))),
        train_examples=sizes["train"],
        eval_examples=sizes["eval"],
        multi_label=several,
        uniform=None not in kind.shape[:2],
    )


def _multi_hot(indices: list[Any], num_classes: int) -> np.ndarray:
    labels = np.zeros((len(indices), num_classes), np.float32)
    for row, present in zip(labels, indices, strict=True):
        row[np.asarray(present, int)] = 1
    return labels


Record = dict[str, Any] | UnreadableImage  # an example by feature, or what is wrong with its record


class _Deserialized:
    """The records of a TFRecord set as TFDS's own data source gives those of the other formats."""

    def __init__(self, builder: Any, split: str, decoders: Any) -> None:
        stored = builder.info.splits[split]
        self.records = tfrecord.Records(tuple(map(os.fspath, stored.filepaths)), tuple(stored.shard_lengths))
        self.example = functools.partial(builder.info.features.deserialize_example_np, decoders=decoders)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Any:
        return self.example(self.records.read(number))

    def __getitems__(self, numbers: list[int]) -> list[Any]:
        return [self[number] for number in numbers]


def _opened(builder: Any, split: str, decoders: Any) -> Any:
    """The data source of a split. Raises `UserError` where its files cannot be what dataset_info.json says."""
    try:
        if builder.info.file_format.value == "tfrecord":
            return _Deserialized(builder, split, decoders)
        return builder.as_data_source(split=split, decoders=decoders)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"a file of {builder.data_dir}, split {split}, is missing, damaged or cut short: {error}"
        ) from error


@functools.cache
def _damage() -> tuple[type[Exception], ...]:
    """What is raised of a record that is damaged: by array_record, by protobuf of its bytes, and by us."""
    from google.protobuf.message import DecodeError

    return RuntimeError, DecodeError, UnreadableImage


def _records(source: Any, positions: np.ndarray, where: str) -> Iterator[Record]:
    """Examples in their order, read many at a time; one at a time where that fails, to learn which is damaged."""
    for start in range(0, len(positions), _CHUNK):
        numbers = positions[start : start + _CHUNK].tolist()
        try:
            yield from source.__getitems__(numbers)
        except _damage():
            yield from (_one(source, number, where) for number in numbers)


def _one(source: Any, number: int, where: str) -> Record:
    try:
        return source[number]
    except _damage() as error:
        if isinstance(error, UnreadableImage):
            return error
        return UnreadableImage(f"example {number} of {where} is damaged: {error}")


def _raise(error: UnreadableImage) -> bytes:
    raise error


def _read(cfg: DataConfig, split: Split, evaluation: str | None = None) -> Examples:
    from tensorflow_datasets import decode
    from tensorflow_datasets import features as kinds

    stored = _describe(cfg, evaluation)
    builder = _builder(os.fspath(_folder(cfg)))
    image, label, several = _keys(builder)
    # TFDS decodes no image: reading labels then touches no pixel, and Pillow decodes for every source alike.
    skip = {key: decode.SkipDecoding() for key, kind in builder.info.features.items() if isinstance(kind, kinds.Image)}
    name = _splits(builder, evaluation)[split]
    assert name is not None  # `info` asks for data.validation where there is no evaluation split
    source = _opened(builder, name, skip)
    num_classes, where = len(stored.class_names), f"{builder.data_dir}, split {split}"

    def labels(records: Iterable[Record]) -> np.ndarray:
        """Of a damaged record the label is lost too: it counts as of the first class, or as of none of several."""
        nothing: Any = [] if several else 0
        values = [nothing if isinstance(record, UnreadableImage) else record[label] for record in records]
        if several:
            return _multi_hot(values, num_classes)
        found = np.asarray(values, np.int32).reshape(-1)
        if len(found) and not 0 <= found.min() <= found.max() < num_classes:
            raise UserError(f"{where} has examples without a label; expected labels from 0 to {num_classes - 1}")
        return found

    def encoded(position: int, record: Record) -> Encoded:
        if isinstance(record, UnreadableImage):
            data: Callable[[], bytes] = functools.partial(_raise, record)
        else:
            data = functools.partial(bytes, record[image])
        return Encoded(data, stored.shape[2], f"example {position} of {where}")

    def read(positions: np.ndarray) -> tuple[list[Encoded], np.ndarray]:
        records = list(_records(source, positions, where))
        return list(map(encoded, positions.tolist(), records)), labels(records)

    return Examples(len(source), lambda: labels(_records(source, np.arange(len(source)), where)), read)


def _files(cfg: DataConfig) -> dict[str, epath.Path]:
    return {file.name: file for file in _folder(cfg).iterdir() if file.is_file()}


def source(summary: str, evaluation: str | None = None, published: Stored | None = None) -> Source:
    """A row for a TFDS set; `evaluation` names its evaluation split where the first of test, validation is not it."""
    return Source(
        summary=summary,
        describe=functools.partial(_describe, evaluation=evaluation),
        read=functools.partial(_read, evaluation=evaluation),
        files=_files,
        published=published,
    )
