"""Landmark detection: where each of a fixed number of points is in a picture."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import metrics
from research.config import TaskConfig
from research.tasks import Batch, Examples, Marks, Statistics
from research.tasks._values import averages, loss_of

NEAR = {"pck05": 0.05, "pck10": 0.1}


@dataclass(frozen=True)
class Landmarks:
    """Outputs and labels "b 2n": x1 y1 x2 y2 .. as shares of the picture."""

    loss_function: Callable[..., jax.Array]  # (outputs, labels) -> one value per example
    num_outputs: int
    higher_is_better: bool = False
    metric: str = "nme"

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def with_hyperparameters(self, numbers: Mapping[str, Any]) -> "Landmarks":
        """The same task."""
        return self

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """The training loss of each example, float32 "b", not masked."""
        return self.loss_function(outputs, batch["label"])

    def errors(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """Share of an example's points farther away than a tenth of the side of the box around them, float32 "b"."""
        apart = (outputs - batch["label"]).reshape(len(outputs), self.num_outputs // 2, 2)
        far = jnp.linalg.norm(apart, axis=-1) > NEAR["pck10"] * self._side(batch)[:, None]
        return jnp.mean(far.astype(jnp.float32), axis=-1)

    def statistics(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Statistics:
        """Masked sums of one batch: loss, NME and PCK, by the side of the box around an example's true points."""
        label, mask, side = batch["label"], batch["mask"], self._side(batch)
        seen: Statistics = {
            "loss": metrics.mean(self.loss(outputs, batch), mask),
            "nme": metrics.nme(outputs, label, mask, scale=side),
        }
        if train:
            return seen
        return seen | {name: metrics.pck(outputs, label, mask, alpha=a, scale=side) for name, a in NEAR.items()}

    def values(self, statistics: Statistics) -> dict[str, float | list[Any]]:
        """The means by name: loss, nme, and pck at a twentieth and a tenth of the box's side."""
        return averages(statistics)

    def marks(self, rows: np.ndarray) -> list[Marks]:
        """The points of each row."""
        return [Marks(points=tuple(map(tuple, row.reshape(-1, 2).tolist()))) for row in rows]

    def _side(self, batch: Batch) -> jax.Array:
        """sqrt(width x height) of the smallest box around the true points, "b"."""
        points = batch["label"].reshape(-1, self.num_outputs // 2, 2)
        sides = jnp.max(points, axis=1) - jnp.min(points, axis=1)
        return jnp.sqrt(sides[:, 0] * sides[:, 1])


def create(cfg: TaskConfig, info: Examples) -> Landmarks:
    """Detection of `info`'s points under the loss that `cfg` names.

    Raises `UserError`: other data, unknown loss, or one of another kind.
    """
    return Landmarks(loss_of(cfg, info, "landmarks", [["landmarks", "landmarks"]]), 2 * info.num_classes)
