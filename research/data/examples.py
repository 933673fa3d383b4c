"""The examples that a `DataConfig` means: how many, of what shape, and as arrays in memory."""

import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.config import DataConfig
from research.data import splits, transforms
from research.data.sources import source
from research.data.stored import Examples, Stored
from research.errors import UserError

_LIMIT = 16 * 2**30  # bytes of resident images, however much memory there is


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


def _side(cfg: DataConfig, stored: Stored) -> tuple[int, int]:
    height, width = stored.shape[:2]
    if cfg.resolution is not None:
        if cfg.fit == "pad" and height is not None and width is not None:
            transforms.pad(np.zeros((height, width, 1), np.uint8), cfg.resolution)
        return cfg.resolution, cfg.resolution
    if height is None or width is None:
        raise UserError(f"{cfg.name} holds images of many sizes; set data.resolution (pixels)")
    return height, width


def info(cfg: DataConfig) -> DatasetInfo:
    """What `cfg` gives, from metadata alone. Raises `UserError`: unknown, unprepared or missing data, contradiction."""
    stored = source(cfg).describe(cfg)
    transforms.to_channels(np.zeros((1, 1, stored.shape[2]), np.uint8), cfg.channels or stored.shape[2])
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
        shape=(*_side(cfg, stored), cfg.channels or stored.shape[2]),
        num_classes=len(stored.class_names),
        train_examples=cfg.train_examples or rest,
        eval_examples=held or stored.eval_examples,
        class_names=stored.class_names,
        multi_label=stored.multi_label,
    )


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
            f"{limit / 2**30:.1f} GiB can be kept in memory; lower data.resolution or data.train_examples"
        )


def _materialise(images: Iterable[np.ndarray], count: int, cfg: DataConfig, info: DatasetInfo) -> np.ndarray:
    """The images at their final size and channels, uint8 [count h w c]. Raises `UserError` on one that does not fit."""
    if isinstance(images, np.ndarray) and images.shape[1:] == info.shape:
        return np.ascontiguousarray(images)
    fit = {"resize": transforms.resize, "pad": transforms.pad}[cfg.fit]
    array = np.zeros((count, *info.shape), np.uint8)
    for position, stored in enumerate(images):
        image = fit(stored, cfg.resolution) if cfg.resolution is not None else stored
        if image.shape[:2] != info.shape[:2]:
            raise UserError(
                f"{cfg.name} holds images of {info.shape[0]}x{info.shape[1]} and of {image.shape[0]}x{image.shape[1]}; "
                f"set data.resolution (pixels)"
            )
        array[position] = transforms.to_channels(image, info.shape[2])
    return array


def statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel, float32 [c], from exact integer sums; a constant channel gets 1."""
    total = np.zeros(images.shape[-1], np.uint64)
    squares = np.zeros_like(total)
    for start in range(0, len(images), 1024):
        pixels = images[start : start + 1024].reshape(-1, images.shape[-1])
        total += pixels.sum(axis=0, dtype=np.uint64)
        squares += np.square(pixels, dtype=np.uint16).sum(axis=0, dtype=np.uint64)
    count = images.size // images.shape[-1]
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    return mean.astype(np.float32), np.where(variance > 0, np.sqrt(variance), 1).astype(np.float32)


def _part(examples: Examples, positions: np.ndarray, cfg: DataConfig, info: DatasetInfo) -> dict[str, np.ndarray]:
    images = _materialise(examples.images(positions), len(positions), cfg, info)
    return {"image": images, "label": examples.labels[positions]}


def load(cfg: DataConfig, info: DatasetInfo) -> dict[str, dict[str, np.ndarray]]:
    """Both splits that `cfg` means: image uint8 [n h w c], label int32 [n] or float32 [n k]. Raises `UserError`."""
    read = functools.partial(source(cfg).read, cfg)
    train = read("train")
    positions = np.arange(len(train.labels))
    if cfg.validation:
        positions, held = splits.hold_out(train.labels, info.num_classes, info.eval_examples, "validation")
        evaluation = _part(train, held, cfg, info)
    else:
        test = read("eval")
        evaluation = _part(test, np.arange(len(test.labels)), cfg, info)
    if cfg.train_examples is not None:
        rest = train.labels[positions]
        positions = positions[splits.subset(rest, info.num_classes, cfg.train_examples, "subset")]
    return {"train": _part(train, positions, cfg, info), "eval": evaluation}
