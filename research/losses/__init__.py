"""Losses: pure functions by theme. Every public function of a file here is a loss, under its own name.

    from research import losses
    values = losses.softmax_cross_entropy(logits, labels, label_smoothing=0.1)     # float32 "b"
    loss = losses.masked_mean(values, mask)

Predictions first, targets second, options keyword-only. Annotations say what the inputs mean (`meanings`) and what is
given (`kind`): one value per example, one of a batch whose examples are compared with one another, or a penalty on
parameters or a critic.
"""

import functools
import inspect
import typing
from collections.abc import Callable

import jax

from research import catalogue
from research.errors import UserError, unknown
from research.inputs import AnyArray, BinaryLabels, ClassLabels, Logits, Mask, PerExample
from research.losses._gram import gram_matrix
from research.losses._reduction import masked_mean, masked_sum
from research.losses._straight_through import straight_through

__all__ = [
    "AnyArray",
    "BinaryLabels",
    "ClassLabels",
    "Logits",
    "Mask",
    "PerExample",
    "get",
    "gram_matrix",
    "kind",
    "masked_mean",
    "masked_sum",
    "meanings",
    "names",
    "signed",
    "straight_through",
]

Loss = Callable[..., jax.Array]


@functools.cache
def _table() -> dict[str, Loss]:
    return catalogue.public_functions(__name__)


def names() -> list[str]:
    """Every loss, in alphabetical order."""
    return sorted(_table())


def get(name: str) -> Loss:
    """The loss function called `name`, or the user's own as `file.py:function`.

    Raises `UserError` naming the nearest losses when there is none, or saying so when what the file has is no function.
    """
    if catalogue.is_path(name):
        loss = catalogue.load_object(name, "loss")
        if not callable(loss):
            raise UserError(
                f"loss {name!r} is {loss!r}; expected a function (outputs, labels) -> one value per example"
            )
        return loss
    if name not in _table():
        raise unknown("loss", name, names())
    return _table()[name]


def meanings(function: Callable[..., typing.Any]) -> dict[str, str]:
    """What each input of a loss or metric means, in order: `{"logits": "logits", "labels": "class labels"}`.

    Inputs whose annotation declares no meaning (options, a user's own function) are left out.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    return {
        name: hints[name].__metadata__[0]
        for name in inspect.signature(function).parameters
        if typing.get_origin(hints.get(name)) is typing.Annotated
    }


def kind(function: Callable[..., typing.Any]) -> str:
    """What a loss gives: "per example", "batch" or "penalty"; "" where a user's own function says nothing."""
    given = _given(function)
    return given[0] if given else ""


def signed(function: Callable[..., typing.Any]) -> bool:
    """Whether a loss declares that its values may be less than 0."""
    return "signed" in _given(function)


def _given(function: Callable[..., typing.Any]) -> tuple[str, ...]:
    hint: typing.Any = typing.get_type_hints(function, include_extras=True).get("return")
    return hint.__metadata__ if typing.get_origin(hint) is typing.Annotated else ()


def __getattr__(name: str) -> Loss:
    """Every loss is an attribute of this package, found by walking the folder when first asked for."""
    if not name.startswith("_") and name in _table():
        return _table()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
