"""What a data set on disk is: what is known of it without reading an image, its examples, a digest of its files."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from etils import epath

from research.config import DataConfig

Split = Literal["train", "eval"]


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
    gives every label: int32 [n], or float32 [n k] of 0 and 1 when multi-label. That may have to read every record, so
    only what needs them all (a stratified choice) asks.
    """

    count: int
    labels: Callable[[], np.ndarray]
    read: Callable[[np.ndarray], tuple[Images, np.ndarray]]


def in_memory(images: np.ndarray, labels: np.ndarray) -> Examples:
    """A split whose arrays are already here: images uint8 [n h w c], labels int32 [n]."""
    return Examples(len(labels), lambda: labels, lambda positions: (images[positions], labels[positions]))


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
    """
    sizes = {name: path.stat().length for name, path in files.items()}
    whole = sum(sizes.values()) <= WHOLE
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{sizes[name]}\0".encode())
        with files[name].open("rb") as file:
            if whole or sizes[name] <= 2 * EDGE:
                total.update(file.read())
            else:
                total.update(file.read(EDGE))
                file.seek(sizes[name] - EDGE)
                total.update(file.read(EDGE))
    return total.hexdigest()
