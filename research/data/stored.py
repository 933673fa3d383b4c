"""What a data set on disk is: what is known of it without reading an image, its examples, a digest of its files."""

import hashlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from etils import epath

from research.config import DataConfig
from research.errors import UserError

Split = Literal["train", "eval"]
# What the labels say: a class (or, with `multi_label`, any number); one object, as rows [pc, bx, by, bh, bw, c1 .. cn]
# of shares of the picture; or points, as rows x1 y1 x2 y2 .. of such shares, whose names are the `class_names`.
Labels = Literal["class", "object", "landmarks"]


@dataclass(frozen=True)
class Stored:
    """A data set as its files hold it, before a config is applied; known without reading an image.

    `shape` is (height, width, channels) in pixels, None where it differs from image to image; `eval_examples` is 0
    where the data has no evaluation split of its own. `uniform`: whether every image is known to have that shape.
    """

    shape: tuple[int | None, int | None, int]
    class_names: tuple[str, ...]
    train_examples: int
    eval_examples: int
    multi_label: bool = False
    uniform: bool = True
    labels: Labels = "class"


@dataclass(frozen=True)
class Encoded:
    """An image as a file holds it (PNG, JPEG, ...), read when it is asked for; `where` says which file or record."""

    read: Callable[[], bytes]
    channels: int
    where: str


Images = Sequence[np.ndarray | Encoded] | np.ndarray  # each uint8 "h w c" once decoded


@dataclass(frozen=True)
class Examples:
    """One split, in the order its files have it.

    `read(positions)` gives the images and labels at these positions, in their order; nothing is decoded. `labels()`
    gives what to choose by: every label, int32 [n], or float32 [n k] of 0 and 1 when multi-label; the class of objects.
    That may have to read every record, so only what needs them all (a stratified choice) asks.
    """

    count: int
    labels: Callable[[], np.ndarray]
    read: Callable[[np.ndarray], tuple[Images, np.ndarray]]


def in_memory(images: np.ndarray, labels: np.ndarray, classes: np.ndarray | None = None) -> Examples:
    """A split whose arrays are already here: images uint8 [n h w c], labels [n] or [n m]; classes to choose by."""
    return Examples(
        len(labels),
        lambda: labels if classes is None else classes,
        lambda positions: (images[positions], labels[positions]),
    )


@dataclass(frozen=True)
class Source:
    """A row of the data sets: one line on it, and how to describe it, read a split of it and find its files.

    `published`: what is known of it where its files are not here.
    """

    summary: str
    describe: Callable[[DataConfig], Stored]
    read: Callable[[DataConfig, Split], Examples]
    files: Callable[[DataConfig], Mapping[str, epath.Path]]  # name within the data set -> path
    published: Stored | None = None


WHOLE = 256 * 2**20  # bytes up to which a data set is digested whole
EDGE = 64 * 2**10  # bytes digested at each end of a file beyond that


def digest(files: Mapping[str, epath.Path]) -> str:
    """sha256 (hex) over name, size and bytes of the files, in order of name.

    Sets of more than 256 MiB would take longer to read than to train a step on: of each of their files only the first
    and last 64 KiB count, so that damage inside a large shard goes unnoticed here (its own format has checksums).
    Raises `UserError` where one cannot be read, or is a pipe or device that may never end.
    """
    try:
        return _digest({name: (path, _size(path)) for name, path in files.items()})
    except OSError as error:
        where = f"{error.filename} cannot be read: {error.strerror}"
        raise UserError(f"{where}; expected a file of the data set") from error


def _size(path: epath.Path) -> int:
    if "://" in str(path):
        return path.stat().length
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path} is no file; expected one of the data set")
    return found.st_size


def _digest(files: Mapping[str, tuple[epath.Path, int]]) -> str:
    whole = sum(size for _, size in files.values()) <= WHOLE
    total = hashlib.sha256()
    for name, (path, size) in sorted(files.items()):
        total.update(f"{name}\0{size}\0".encode())
        with path.open("rb") as file:
            if whole or size <= 2 * EDGE:
                total.update(file.read())
            else:
                total.update(file.read(EDGE))
                file.seek(size - EDGE)
                total.update(file.read(EDGE))
    return total.hexdigest()
