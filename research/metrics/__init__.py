"""Metrics by theme: batch -> accumulator (masked, mergeable) -> value. A public function here is a metric.

    from research import metrics
    seen = [metrics.top_k(logits, labels, mask, k=5) for logits, labels, mask in batches]
    top5 = metrics.average(functools.reduce(metrics.merge, seen))

    confusion = metrics.confusion_matrix(logits, labels, mask)
    macro_f1 = metrics.f1(metrics.per_class(confusion), average="macro")

A padded example (mask 0) changes nothing, and the accumulators of any partition of the data merge to those of one pass.
"""

import functools
from collections.abc import Callable
from typing import Any

from research import catalogue
from research.errors import unknown
from research.metrics._accumulators import (
    Calibration,
    Confusion,
    Decisions,
    Detections,
    Edits,
    Entropies,
    Mean,
    Moments,
    NgramMatches,
    Panoptic,
    Ranked,
    average,
    mean,
    merge,
    share,
)

__all__ = [
    "Calibration",
    "Confusion",
    "Decisions",
    "Detections",
    "Edits",
    "Entropies",
    "Mean",
    "Moments",
    "NgramMatches",
    "Panoptic",
    "Ranked",
    "average",
    "get",
    "mean",
    "merge",
    "names",
    "share",
]

Metric = Callable[..., Any]


@functools.cache
def _table() -> dict[str, Metric]:
    return catalogue.public_functions(__name__)


def names() -> list[str]:
    """Every metric, in alphabetical order."""
    return sorted(_table())


def get(name: str) -> Metric:
    """The metric function called `name`. Raises `UserError` naming the nearest metrics."""
    if name not in _table():
        raise unknown("metric", name, names())
    return _table()[name]


def __getattr__(name: str) -> Metric:
    """Every metric is an attribute of this package, found by walking the folder when first asked for."""
    if not name.startswith("_") and name in _table():
        return _table()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
