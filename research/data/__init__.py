"""Data sets, and the examples a config means. Only `python -m research.data prepare NAME` downloads or builds one."""

import hashlib
import math
from typing import Literal

from research.config import AugmentationConfig, DataConfig
from research.data.examples import RESIDENT, DatasetInfo, info
from research.data.pipeline import Batch, Feed, Host, Pipeline, Resident, label_shape, resident, resident_shapes
from research.data.sources import SOURCES, source
from research.data.stored import Stored, digest
from research.data.streaming import Streaming, streaming, streaming_shapes
from research.errors import UserError

__all__ = [
    "Batch",
    "DatasetInfo",
    "Feed",
    "Host",
    "Pipeline",
    "Resident",
    "Stored",
    "Streaming",
    "check_batch_size",
    "described",
    "fingerprint",
    "info",
    "input_of",
    "label_shape",
    "names",
    "pipeline",
    "shapes",
    "summaries",
]


def names() -> list[str]:
    """Every data set with a row; any prepared TensorFlow-Datasets name works too."""
    return sorted(SOURCES)


def summaries() -> dict[str, str]:
    """Name -> one line on it, of every data set with a row."""
    return {name: SOURCES[name].summary for name in names()}


def fingerprint(cfg: DataConfig) -> str:
    """sha256 (hex) of the files the examples come from, whatever is then made of them. Raises `UserError` as `info`.

    See `research.data.stored.digest` for what of large files counts. A set without files has its name's.
    """
    files = source(cfg).files(cfg)
    return digest(files) if files else hashlib.sha256(cfg.name.encode()).hexdigest()


def described(cfg: DataConfig) -> tuple[Stored, str]:
    """The data set as its files say, or where they are not here as published; then the second says so, else empty.

    Raises `UserError` as `info` where nothing is known of it.
    """
    row = source(cfg)
    try:
        return row.describe(cfg), ""
    except UserError:
        if row.published is None:
            raise
        return row.published, f"{cfg.name} is not here: its published shape, classes and sizes are used"


def input_of(
    cfg: DataConfig, augmentation: AugmentationConfig, stored: Stored | None = None
) -> Literal["resident", "streaming"]:
    """How the examples reach the step, decided by the config and the data set alone. Raises `UserError` as `info`.

    Random-resized crops of files, whose sizes differ, are cut before the images have one size: on the host, streaming.
    """
    stored = stored or source(cfg).describe(cfg)
    described = info(cfg, stored)
    crops_files = augmentation.random_resized_crop and not stored.uniform
    if cfg.input == "resident" and crops_files:
        raise UserError(
            f"augmentation.random_resized_crop crops the files of {cfg.name} before they have one size; expected "
            "data.input streaming, or auto"
        )
    if cfg.input != "auto":
        return cfg.input
    size = (described.train_examples + described.eval_examples) * math.prod(described.shape)
    return "streaming" if crops_files or size > RESIDENT else "resident"


def check_batch_size(cfg: DataConfig, train_examples: int | None) -> None:
    """Raise `UserError` where a batch is larger than the training split (None: unknown): some would be in it twice."""
    if train_examples is not None and cfg.batch_size > train_examples:
        raise UserError(
            f"data.batch_size is {cfg.batch_size}, more than the {train_examples} training examples of {cfg.name}; "
            "expected at most that"
        )


def pipeline(
    cfg: DataConfig,
    augmentation: AugmentationConfig = AugmentationConfig(),
    *,
    seed: int,
    host: Host = Host(),
) -> Pipeline:
    """The examples that `cfg` means, in the orders that `seed` gives. Raises `UserError` as `info`, or if too large."""
    if input_of(cfg, augmentation) == "streaming":
        return streaming(cfg, augmentation, seed=seed, host=host)
    return resident(cfg, augmentation, seed=seed, host=host)


def shapes(
    cfg: DataConfig, augmentation: AugmentationConfig = AugmentationConfig(), *, stored: Stored | None = None
) -> Pipeline:
    """A pipeline to trace and compile with: the shapes of its arrays, no example. Raises `UserError` as `info`."""
    stored = stored or source(cfg).describe(cfg)
    described = info(cfg, stored)
    if input_of(cfg, augmentation, stored) == "streaming":
        return streaming_shapes(cfg, augmentation, described, uniform=stored.uniform)
    return resident_shapes(cfg, augmentation, described)
