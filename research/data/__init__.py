"""Data sets, and the examples a config means. Only `python -m research.data prepare NAME` downloads or builds one."""

import hashlib

from research.config import DataConfig
from research.data.examples import DatasetInfo, info
from research.data.pipeline import Batch, Feed, Pipeline, Resident, resident
from research.data.sources import SOURCES, source
from research.data.stored import digest

__all__ = [
    "Batch",
    "DatasetInfo",
    "Feed",
    "Pipeline",
    "Resident",
    "fingerprint",
    "info",
    "names",
    "pipeline",
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


def pipeline(cfg: DataConfig, *, seed: int) -> Pipeline:
    """The examples that `cfg` means, in the orders that `seed` gives. Raises `UserError` as `info`, or if too large."""
    return resident(cfg, seed=seed)
