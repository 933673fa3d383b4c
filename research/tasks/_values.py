"""What tasks share whose metrics are all means, and the losses that fit a kind of labels."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from research import catalogue, losses, metrics
from research.config import TaskConfig
from research.errors import UserError
from research.tasks import Examples, Statistics


def averages(statistics: Statistics) -> dict[str, float | list[Any]]:
    """Every mean among the statistics as a number, on the host and in float64: 957 of 1000 is 0.957."""
    host = jax.tree.map(np.asarray, jax.device_get(statistics))
    return {name: float(metrics.average(seen)) for name, seen in host.items() if isinstance(seen, metrics.Mean)}


def fitting(meanings: list[list[str]]) -> list[str]:
    """The losses per example whose inputs mean one of these, by name."""
    known = {name: losses.get(name) for name in losses.names()}
    return [
        n for n, f in known.items() if list(losses.meanings(f).values()) in meanings and losses.kind(f) == "per example"
    ]


def loss_of(cfg: TaskConfig, info: Examples, labels: str, meanings: list[list[str]]) -> Callable[..., jax.Array]:
    """The loss that `cfg` names, of data whose labels are such. Raises `UserError` where either is another kind."""
    classes = "several classes per example" if info.multi_label else "classes"
    has = {"class": classes, "object": "one object each", "landmarks": "landmarks"}[info.labels]
    if info.labels != labels:
        raise UserError(f"task {cfg.name!r} does not fit data {info.name!r}, which has {has}")
    function = losses.get(cfg.loss)
    if not catalogue.is_path(cfg.loss) and cfg.loss not in (known := fitting(meanings)):
        raise UserError(
            f"task.loss {cfg.loss!r} does not fit data {info.name!r}, which has {has}; expected {' or '.join(known)}"
        )
    return function
