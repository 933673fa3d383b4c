"""What following a jaxpr is about: where values come from, and the events that cost something or use a variable."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from research.scaling.field import Field
from research.scaling.propagate import join

Path = tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """Where an array comes from: `field` if from the input, else the `leaves` (variables) and `stored` arrays in it.

    `product`: a product of variables is in it, so that as the output of a module it is an activation (a learned query).
    """

    field: Field | None = None
    leaves: frozenset[int] = frozenset()
    stored: bool = False
    product: bool = False

    @property
    def generated(self) -> bool:
        """Whether it is made from literals alone: an interpolation matrix, a window of ones, zeros."""
        return self.field is None and not self.leaves and not self.stored


@dataclass(frozen=True)
class Event:
    """One thing the network does: `repeats` times `macs` multiply-adds, with an output of `shape`.

    `kernel` are the variables a convolution or dense layer multiplies by, or those that a `use` adds or scales by.
    """

    kind: Literal["convolution", "dense", "product", "norm", "pool", "use"]
    operation: str
    shape: tuple[int, ...]
    scope: Path
    repeats: int
    receptive_field: tuple[int, ...]
    macs: int = 0
    unpadded_macs: int = 0
    kernel: frozenset[int] = frozenset()
    of_input: bool = True


def macs(events: Iterable[Event]) -> int:
    """Multiply-adds of all events, repeats included."""
    return sum(event.repeats * event.macs for event in events)


def merge(values: Sequence[Value], result: Field | None) -> Value:
    """A value computed from `values`, with the field it has if any of them depends on the input."""
    if result is not None:
        return Value(result)
    leaves = frozenset[int]().union(*(v.leaves for v in values))
    return Value(None, leaves, any(v.stored for v in values), any(v.product for v in values))


def either(one: Value, other: Value) -> Value:
    """A value that is one or the other."""
    known = [v.field for v in (one, other) if v.field is not None]
    return merge((one, other), join(known) if known else None)
