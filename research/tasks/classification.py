"""Classification: one class per example, or several (multi-label), judged by top-k or by F1."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import catalogue, metrics
from research.config import TaskConfig
from research.errors import UserError
from research.tasks import Batch, Examples, Marks, Statistics
from research.tasks._values import averages, loss_of


@dataclass(frozen=True)
class Classification:
    """A loss over class scores, and the metrics of one class per example or, with `multi_label`, of any number."""

    loss_function: Callable[..., jax.Array]  # (outputs, labels) -> one value per example
    num_outputs: int
    multi_label: bool = False
    higher_is_better: bool = True
    label_smoothing: Any = None  # a number, which may be traced; None: off

    @property
    def metric(self) -> str:
        """The name among `values` that says which checkpoint is best."""
        return "macro_f1" if self.multi_label else "top1"

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """Label smoothing, where it is on."""
        return {} if self.label_smoothing is None else {"label_smoothing": self.label_smoothing}

    def with_hyperparameters(self, numbers: Mapping[str, Any]) -> "Classification":
        """The task with another label smoothing, which may be traced."""
        return dataclasses.replace(self, **{name: numbers[name] for name in self.hyperparameters if name in numbers})

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """The training loss of each example, float32 "b", not masked. Shapes: outputs "b k", label "b" or "b k"."""
        return self.loss_function(outputs, batch["label"], **self.hyperparameters)

    def errors(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """1 where the class is not the label's or, with `multi_label`, any decision is not, float32 "b"."""
        if self.multi_label:
            return jnp.any((outputs > 0) != (batch["label"] > 0), axis=-1).astype(jnp.float32)
        return (jnp.argmax(outputs, axis=-1) != batch["label"]).astype(jnp.float32)

    def statistics(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Statistics:
        """Masked sums of one batch; with `train` only the loss and the accuracy."""
        of_batch = (outputs, batch["label"], batch["mask"])
        seen: Statistics = {"loss": metrics.mean(self.loss(outputs, batch), batch["mask"])}
        if self.multi_label:
            seen["subset_accuracy"] = metrics.subset_accuracy(*of_batch)
            return seen if train else {**seen, "decisions": metrics.decisions(*of_batch)}
        seen["top1"] = metrics.top_k(*of_batch, k=1)
        if train:
            return seen
        return {
            **seen,
            "top5": metrics.top_k(*of_batch, k=5),
            "negative_log_likelihood": metrics.negative_log_likelihood(*of_batch),
            "confusion_matrix": metrics.confusion_matrix(*of_batch),
        }

    def marks(self, rows: np.ndarray) -> list[Marks]:
        """None: a class has no place."""
        return []

    def values(self, statistics: Statistics) -> dict[str, float | list[Any]]:
        """The metrics that merged statistics amount to, as numbers and (nested) lists.

        The means by name; macro (multi-label: also micro) and per-class precision, recall and F1; for one class per
        example the confusion matrix, a row for each true class.
        """
        host = jax.tree.map(np.asarray, jax.device_get(statistics))
        values = averages(host)
        outcomes = host.get("decisions")
        if "confusion_matrix" in host:
            values["confusion_matrix"] = host["confusion_matrix"].matrix.tolist()
            outcomes = metrics.per_class(host["confusion_matrix"])
        if outcomes is not None:
            values |= _per_class_values(outcomes, ("macro", "micro") if self.multi_label else ("macro",))
        return values


def _per_class_values(outcomes: metrics.Decisions, averages: tuple[str, ...]) -> dict[str, float | list[Any]]:
    values: dict[str, float | list[Any]] = {}
    for name, function in {"precision": metrics.precision, "recall": metrics.recall, "f1": metrics.f1}.items():
        values |= {f"{average}_{name}": float(function(outcomes, average=average)) for average in averages}
        values[f"per_class_{name}"] = function(outcomes).tolist()
    return values


def create(cfg: TaskConfig, info: Examples) -> Classification:
    """Classification of `info`'s classes under the loss that `cfg` names.

    Raises `UserError`: unknown loss, a loss for one class per example on multi-label data, a loss that is not about
    class scores, or label smoothing for a loss that has none.
    """
    accepted = ["binary labels"] if info.multi_label else ["class labels", "binary labels"]
    function = loss_of(cfg, info, "class", [["logits", labels] for labels in accepted])
    smoothing = cfg.label_smoothing or None
    if smoothing is not None:
        if "label_smoothing" not in inspect.signature(function).parameters:
            raise UserError(
                f"task.label_smoothing is {cfg.label_smoothing:g}; loss {cfg.loss!r} has no label smoothing"
            )
        if catalogue.is_path(cfg.loss):  # a user's own may ask whether it is 0: to it alone it is no value
            function, smoothing = functools.partial(function, label_smoothing=smoothing), None
    return Classification(function, info.num_classes, info.multi_label, label_smoothing=smoothing)
