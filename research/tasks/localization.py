"""Classification with localization: whether there is an object, where, and of which class, one at most per picture."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import boxes, metrics
from research.config import TaskConfig
from research.errors import UserError
from research.tasks import Batch, Examples, Marks, Statistics
from research.tasks._values import averages, loss_of

OVERLAPS = {"iou50": 0.5, "iou70": 0.7, "iou90": 0.9}


@dataclass(frozen=True)
class Localization:
    """Outputs and labels "b 5+n": [pc, bx, by, bh, bw, c1 .. cn] of shares of the picture (classes are logits)."""

    loss_function: Callable[..., jax.Array]  # (outputs, labels) -> one value per example
    num_outputs: int
    higher_is_better: bool = True
    metric: str = "iou"

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """None: the weights of the loss's terms are part of the program."""
        return {}

    def with_hyperparameters(self, numbers: Mapping[str, Any]) -> "Localization":
        """The same task."""
        return self

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """The training loss of each example, float32 "b", not masked."""
        return self.loss_function(outputs, batch["label"])

    def errors(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """1 where presence or class is wrong or the box overlaps its object's by less than half, float32 "b"."""
        found = self._overlap(outputs, batch) >= OVERLAPS["iou50"]
        there = batch["label"][:, 0] > 0.5
        return (~self._right(outputs, batch) | (there & ~found)).astype(jnp.float32)

    def statistics(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Statistics:
        """Masked sums of one batch: loss, accuracy (presence and class), and of objects their boxes' overlap."""
        mask = batch["mask"]
        seen: Statistics = {
            "loss": metrics.mean(self.loss(outputs, batch), mask),
            "accuracy": metrics.share(self._right(outputs, batch), mask),
        }
        if train:
            return seen
        objects = jnp.where(batch["label"][:, 0] > 0.5, mask, 0.0)
        overlap = self._overlap(outputs, batch)
        seen |= {name: metrics.share(overlap >= least, objects) for name, least in OVERLAPS.items()}
        return {**seen, "iou": metrics.mean(overlap, objects)}

    def values(self, statistics: Statistics) -> dict[str, float | list[Any]]:
        """The means by name: loss, accuracy, iou, and the shares of objects found at overlaps .5, .7 and .9."""
        return averages(statistics)

    def marks(self, rows: np.ndarray) -> list[Marks]:
        """The box and the class of each row whose pc is above a half."""
        corners = np.asarray(boxes.convert(rows[:, 1:5], "center_height_width", "corners"))
        return [
            Marks((tuple(box),), label=int(row[5:].argmax())) if row[0] > 0.5 else Marks(label=-1)
            for row, box in zip(rows, corners.tolist(), strict=True)
        ]

    @staticmethod
    def _overlap(outputs: jax.Array, batch: Batch) -> jax.Array:
        corners = (boxes.convert(rows[:, 1:5], "center_height_width", "corners") for rows in (outputs, batch["label"]))
        return boxes.iou(*corners)

    @staticmethod
    def _right(outputs: jax.Array, batch: Batch) -> jax.Array:
        """Whether presence is right and, where there is an object, the class."""
        there = batch["label"][:, 0] > 0.5
        same = jnp.argmax(outputs[:, 5:], axis=-1) == jnp.argmax(batch["label"][:, 5:], axis=-1)
        return ((outputs[:, 0] > 0.5) == there) & (same | ~there)


def create(cfg: TaskConfig, info: Examples) -> Localization:
    """Localization of `info`'s classes under the loss that `cfg` names.

    Raises `UserError`: other data, unknown loss or one of another kind, or weights for a loss that takes none.
    """
    function = loss_of(cfg, info, "object", [["object scores", "objects"]])
    asked = {"lambda_coord": cfg.lambda_coord, "lambda_obj": cfg.lambda_obj, "lambda_cls": cfg.lambda_cls}
    given = {name: weight for name, weight in asked.items() if weight is not None}
    for name in given:
        if name not in inspect.signature(function).parameters:
            raise UserError(f"task.{name} is {given[name]:g}; loss {cfg.loss!r} has no {name}")
    return Localization(functools.partial(function, **given) if given else function, 5 + info.num_classes)
