"""The examples that a `DataConfig` means: how many, of what shape, which of the stored ones, and their pixels."""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from research.config import DataConfig
from research.data import splits, transforms
from research.data.sources import source
from research.data.stored import Encoded, Examples, Images, Labels, Split, Stored
from research.errors import UserError

_log = logging.getLogger(__name__)
_LIMIT = 16 * 2**30  # bytes of resident images, however much memory there is
RESIDENT = 2**30  # bytes of images up to which a set is resident where data.input is auto


@dataclass(frozen=True)
class DatasetInfo:
    """What a model and a task need to know of the data, with `data.*` applied; shape is (height, width, channels)."""

    name: str
    shape: tuple[int, int, int]
    num_classes: int
    train_examples: int
    eval_examples: int
    class_names: tuple[str, ...]
    multi_label: bool = False
    labels: Labels = "class"


def _side(cfg: DataConfig, stored: Stored) -> tuple[int, int]:
    height, width = stored.shape[:2]
    if cfg.resolution is not None:
        if cfg.fit == "pad" and height is not None and width is not None:
            transforms.pad(np.zeros((height, width, 1), np.uint8), cfg.resolution)
        return cfg.resolution, cfg.resolution
    if height is None or width is None:
        raise UserError(f"{cfg.name} holds images of many sizes; set data.resolution (pixels)")
    return height, width


def info(cfg: DataConfig, stored: Stored | None = None) -> DatasetInfo:
    """What `cfg` gives, from metadata alone: of `stored`, by default what the files say.

    Raises `UserError`: unknown, unprepared or missing data, contradiction.
    """
    stored = stored or source(cfg).describe(cfg)
    channels = cfg.channels or stored.shape[2]
    transforms.to_channels(np.zeros((1, 1, stored.shape[2]), np.uint8), channels)
    for key, values in (("mean", cfg.mean), ("std", cfg.std)):
        if values is not None and len(values) != channels:
            raise UserError(f"data.{key} has {len(values)} values, and images have {channels} channels")
    if stored.labels != "class" and (cfg.fit == "pad" or (cfg.crop_fraction or 1.0) != 1 or not _square(stored)):
        raise UserError(
            f"data.fit and data.crop_fraction move what the labels of {cfg.name} place; expected square images, resized"
        )
    held = round(cfg.validation * stored.train_examples)
    rest = stored.train_examples - held
    if cfg.validation and not 0 < held < stored.train_examples:
        raise UserError(
            f"data.validation is {cfg.validation}, which holds out {held} of the {stored.train_examples} training "
            f"examples of {cfg.name}; expected a share that leaves some on each side"
        )
    if not held and not stored.eval_examples:
        raise UserError(f"{cfg.name} has no test split; set data.validation to hold out a share of its training split")
    if cfg.train_examples is not None and cfg.train_examples > rest:
        raise UserError(
            f"data.train_examples is {cfg.train_examples}, and {cfg.name} has {rest}; expected at most that"
        )
    return DatasetInfo(
        name=cfg.name,
        shape=(*_side(cfg, stored), channels),
        num_classes=len(stored.class_names),
        train_examples=cfg.train_examples or rest,
        eval_examples=held or stored.eval_examples,
        class_names=stored.class_names,
        multi_label=stored.multi_label,
        labels=stored.labels,
    )


def _square(stored: Stored) -> bool:
    return stored.shape[0] is not None and stored.shape[0] == stored.shape[1]


def _available_memory() -> int:
    """Bytes that can be allocated without swapping; where the kernel does not say, the machine's memory."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(info: DatasetInfo, available: int | None = None) -> None:
    """Raise `UserError` when the images exceed 16 GiB or half of the `available` bytes (default: this machine's)."""
    size = (info.train_examples + info.eval_examples) * int(np.prod(info.shape))
    limit = min(_LIMIT, (available if available is not None else _available_memory()) // 2)
    if size > limit:
        raise UserError(
            f"{info.name} at {'x'.join(map(str, info.shape))} takes {size / 2**30:.1f} GiB, and at most "
            f"{limit / 2**30:.1f} GiB can be kept in memory; expected data.input streaming, or less of it"
        )


@dataclass(frozen=True)
class Part:
    """The examples of one split that a config means: number i of them is `positions[i]` of the split `stored`.

    Pickles small: `positions` is None where it is all of them in their order, and a copy opens the files again.
    """

    config: DataConfig
    stored: Split
    count: int
    positions: np.ndarray | None = None
    opened: Examples | None = dataclasses.field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"opened": None}

    def read(self, indices: np.ndarray) -> tuple[Images, np.ndarray]:
        """Images, not decoded, and labels of these examples, in their order."""
        if self.opened is None:
            object.__setattr__(self, "opened", source(self.config).read(self.config, self.stored))
        assert self.opened is not None
        return self.opened.read(indices if self.positions is None else self.positions[indices])


def parts(cfg: DataConfig, info: DatasetInfo) -> dict[Split, Part]:
    """Both splits that `cfg` means. Raises `UserError`."""
    train = source(cfg).read(cfg, "train")
    positions = None
    if cfg.validation:
        positions, held = splits.hold_out(train.labels(), info.num_classes, info.eval_examples, "validation")
        evaluation = Part(cfg, "train", len(held), held, train)
    else:
        evaluation = Part(cfg, "eval", info.eval_examples, None, source(cfg).read(cfg, "eval"))
    if cfg.train_examples is not None:
        positions = np.arange(train.count) if positions is None else positions
        rest = train.labels()[positions]
        positions = positions[splits.subset(rest, info.num_classes, cfg.train_examples, "subset")]
    return {"train": Part(cfg, "train", info.train_examples, positions, train), "eval": evaluation}


def pixels(image: np.ndarray | Encoded) -> np.ndarray:
    """An image as stored, decoded: uint8 "h w c". Raises `UnreadableImage`."""
    if isinstance(image, np.ndarray):
        return image
    return transforms.decode(transforms.contents(image), image.channels, image.where)


_named: set[str] = set()  # messages of unreadable images that this process has given


def readable(made: Callable[[], np.ndarray], cfg: DataConfig) -> np.ndarray | None:
    """What `made` gives; where it cannot read an image and data.corrupt is `skip`, None, and a warning that names it.

    Raises `UserError` where data.corrupt is `refuse`.
    """
    try:
        return made()
    except transforms.UnreadableImage as error:
        if cfg.corrupt == "refuse":
            raise UserError(f"{error}; data.corrupt=skip leaves such images out") from error
        if str(error) not in _named:
            _named.add(str(error))
            _log.warning("%s; it counts as no example", error)
        return None


def fitted(image: np.ndarray, cfg: DataConfig, info: DatasetInfo) -> np.ndarray:
    """A decoded image at the size and with the channels that `cfg` means. Raises `UserError` where it does not fit."""
    if cfg.resolution is not None and cfg.fit == "pad":
        image = transforms.pad(image, cfg.resolution)
    elif cfg.resolution is not None:
        image = transforms.resize(image, cfg.resolution, cfg.crop_fraction or 1.0, cfg.interpolation or "bilinear")
    if image.shape[:2] != info.shape[:2]:
        raise UserError(
            f"{cfg.name} holds images of {info.shape[0]}x{info.shape[1]} and of {image.shape[0]}x{image.shape[1]}; "
            f"set data.resolution (pixels)"
        )
    return transforms.to_channels(image, info.shape[2])


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), "decode")


CHUNK = 512  # examples read before they are decoded, where a whole split is gone through
_SHARE = 8  # images at least that a thread takes at a time: small ones are decoded faster than a thread is woken


def arrays(
    part: Part,
    indices: np.ndarray,
    info: DatasetInfo,
    make: Callable[[int, np.ndarray | Encoded], np.ndarray] | None = None,
    *,
    threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 [n h w c], labels [n] or [n k], and which are sound, float32 [n]; the others are zeros.

    `make(i, image)` makes number i of them from the image as stored (default: `fitted`). Raises `UserError` where one
    cannot be read and data.corrupt is `refuse`, and what `make` raises.
    """
    cfg = part.config
    images, labels = part.read(indices)
    sound = np.ones(len(indices), np.float32)
    if make is None and isinstance(images, np.ndarray) and images.shape[1:] == info.shape and _kept(cfg):
        return np.ascontiguousarray(images), labels, sound
    array = np.zeros((len(indices), *info.shape), np.uint8)

    def one(number: int) -> np.ndarray:
        return make(number, images[number]) if make else fitted(pixels(images[number]), cfg, info)

    def some(numbers: range) -> None:
        for number in numbers:
            made = readable(functools.partial(one, number), cfg)
            if made is None:
                sound[number] = 0
            else:
                array[number] = made

    numbers = range(len(indices))
    share = max(_SHARE, -(-len(numbers) // (4 * threads)))  # four for each: some images take longer
    if threads == 1 or len(numbers) <= share:
        some(numbers)
    else:
        list(_pool().map(some, [numbers[i : i + share] for i in numbers[::share]]))
    return array, labels, sound


def everything(part: Part, indices: np.ndarray, info: DatasetInfo) -> Iterator[tuple[np.ndarray, ...]]:
    """`arrays` of a chunk after the other of these examples, by all cores."""
    for start in range(0, len(indices), CHUNK):
        yield arrays(part, indices[start : start + CHUNK], info, threads=cores())


def _kept(cfg: DataConfig) -> bool:
    """Whether fitting leaves an image that has the size already as it is."""
    crop = cfg.crop_fraction or 1.0
    return cfg.resolution is None or cfg.fit == "pad" or round(cfg.resolution / crop) == cfg.resolution


def spaced(info: DatasetInfo) -> np.ndarray:
    """The training examples that mean and deviation are measured on: all, or 1 GiB of them, evenly spaced."""
    count, most = info.train_examples, max(RESIDENT // int(np.prod(info.shape)), 1)
    return np.arange(count) if count <= most else np.arange(most) * count // most


def statistics(images: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel of arrays uint8 [n h w c], float32 [c]; a constant channel gets 1.

    From exact integer sums: how the images are grouped changes no bit.
    """
    count, total, squares = 0, np.zeros(1, np.uint64), np.zeros(1, np.uint64)
    for group in images:
        for start in range(0, len(group), 1024):
            values = group[start : start + 1024].reshape(-1, group.shape[-1])
            total = total + values.sum(axis=0, dtype=np.uint64)
            squares = squares + np.square(values, dtype=np.uint16).sum(axis=0, dtype=np.uint64)
            count += len(values)
    mean = total / max(count, 1)
    variance = np.maximum(squares / max(count, 1) - mean**2, 0)
    return mean.astype(np.float32), np.where(variance > 0, np.sqrt(variance), 1).astype(np.float32)


def normalisation(cfg: DataConfig, info: DatasetInfo, images: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """{"mean", "std"}, float32 [c]: what `cfg` says, else measured on `images` (consumed only where it is needed)."""
    given = {"mean": cfg.mean, "std": cfg.std}
    measured: tuple[Any, Any] = (None, None)
    if None in given.values():
        measured = statistics(images)
    pairs = zip(given.items(), measured, strict=True)
    return {key: found if value is None else np.array(value, np.float32) for (key, value), found in pairs}
