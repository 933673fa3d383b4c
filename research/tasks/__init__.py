"""Tasks: how a batch meets a loss and its metrics, one file each. The loop knows a `Task` and nothing more about it.

A file here offers `create(cfg, info) -> Task`, and a docstring whose first line is shown by `launch.py list tasks`.
A batch is a dict: "image" float32 "b h w c", "label", "mask" float32 "b" (1 real, 0 padding), "index" int32 "b".
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from research import catalogue
from research.config import TaskConfig
from research.errors import unknown

Batch = Mapping[str, jax.Array]
Statistics = dict[str, Any]  # name -> accumulator of sums; adding two, leaf by leaf, merges them


class Marks(NamedTuple):
    """What is placed in one picture, in shares of its width and height; `label` is a class, -1: that there is none."""

    boxes: tuple[tuple[float, float, float, float], ...] = ()  # corners
    points: tuple[tuple[float, float], ...] = ()
    label: int | None = None


@runtime_checkable
class Examples(Protocol):
    """What a task needs to know about the data (`research.data.DatasetInfo` has it)."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def num_classes(self) -> int:
        """How many classes there are."""

    @property
    def multi_label(self) -> bool:
        """Whether an example has any number of classes (labels "b k") or exactly one (labels "b")."""

    @property
    def labels(self) -> str:
        """What the labels say: "class", "object" or "landmarks" (`research.data.stored.Labels`)."""


@runtime_checkable
class Task(Protocol):
    """The seam between the loop and a kind of problem."""

    @property
    def metric(self) -> str:
        """The name among `values` that says which checkpoint is best."""

    @property
    def higher_is_better(self) -> bool:
        """Whether more of `metric` is better."""

    @property
    def num_outputs(self) -> int:
        """How many outputs the model needs."""

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """The numbers of its loss that are on, by name: a run keeps them in its state and not in its programs."""

    def with_hyperparameters(self, numbers: Mapping[str, Any]) -> "Task":
        """The task with these numbers, which may be traced, in place of its own; names that are not its are ignored."""

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """The training loss of each example, float32 "b", not masked."""

    def errors(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """How wrong each example is, float32 "b" from 0 to 1, not masked: what a person would count."""

    def statistics(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Statistics:
        """Masked sums of one batch; with `train` only what costs next to nothing beside a training step."""

    def values(self, statistics: Statistics) -> dict[str, float | list[Any]]:
        """The metrics that merged statistics amount to, as numbers and lists (host side); `loss` is among them."""

    def marks(self, rows: np.ndarray) -> list[Marks]:
        """What labels, or outputs, place in each picture, to be drawn; [] of a task that places nothing."""


def names() -> list[str]:
    """Every task, in alphabetical order."""
    return sorted(catalogue.modules(__name__))


def create(cfg: TaskConfig, info: Examples) -> Task:
    """The task that `cfg` names, for data described by `info`.

    Raises `UserError`: unknown task or loss (nearest named), or a loss that contradicts the data.
    """
    modules = catalogue.modules(__name__)
    if cfg.name not in modules:
        raise unknown("task", cfg.name, modules)
    return modules[cfg.name].create(cfg, info)
