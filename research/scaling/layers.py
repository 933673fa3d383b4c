"""Turns what a network does (events) and what it owns (variables) into rows, each variable in exactly one of them."""

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from research.scaling.events import Event, Path


@dataclass(frozen=True)
class Layer:
    """One row of a network: a layer, norm, pool or product, or a parameter used outside of these.

    `macs`, `unpadded_macs` (taps on padding left out) and `elements` of the output include the `repeats` of a scan;
    `output_shape` is of one repeat. `receptive_field` counts input positions per spatial axis, beyond the border too.
    A layer of a gate (`is_gate`) says how much maps count for.
    """

    path: str
    kind: Literal["convolution", "dense", "product", "norm", "pool", "parameter"]
    operation: str
    output_shape: tuple[int, ...]
    receptive_field: tuple[int, ...] = ()
    params: int = 0
    batch_stats: int = 0
    macs: int = 0
    unpadded_macs: int = 0
    repeats: int = 1
    is_gate: bool = False

    @property
    def elements(self) -> int:
        """Elements of the output, in all repeats."""
        return math.prod(self.output_shape) * self.repeats

    @property
    def activations(self) -> int:
        """Elements of the output if this is a convolution or dense layer, and no part of a gate."""
        return self.elements if self.kind in ("convolution", "dense") and not self.is_gate else 0

    @property
    def gates(self) -> int:
        """Elements of the output if this is a layer of a gate."""
        return self.elements if self.kind in ("convolution", "dense") and self.is_gate else 0


@dataclass(frozen=True)
class Leaf:
    """A variable: its collection, its path within (module names, then its own) and its number of elements."""

    collection: str
    path: Path
    shape: tuple[int, ...]

    @property
    def owner(self) -> Path:
        """Path of the module that owns it."""
        return self.path[:-1]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass
class _Row:
    """An event with the variables given to it; None: variables that no layer or norm owns."""

    event: Event | None
    owners: set[Path] = field(default_factory=set)  # modules whose other variables (a bias) belong here too
    leaves: list[int] = field(default_factory=list)


def assemble(events: Sequence[Event], leaves: Sequence[Leaf], root: str) -> tuple[Layer, ...]:
    """The rows in execution order; variables that nothing uses come last. `root` names the outermost module."""
    rows = _rows(events, leaves)
    taken: dict[int, _Row] = {}
    for row in rows:
        for i in sorted(row.event.kernel) if row.event and row.event.kind != "use" else ():
            if taken.setdefault(i, row) is row:
                row.leaves.append(i)
    homes: dict[Path, list[int]] = {}
    for place, row in enumerate(rows):
        for owner in row.owners:
            homes.setdefault(owner, []).append(place)
    for place, row in enumerate(rows):
        if row.event is not None and row.event.kind == "use":
            for i in sorted(row.event.kernel - taken.keys()):
                home = _home(homes.get(leaves[i].owner, []), place)
                taken[i] = row if home is None else rows[home]
                taken[i].leaves.append(i)
    for i in sorted(set(range(len(leaves))) - taken.keys()):
        home = _home(homes.get(leaves[i].owner, []), 0)
        if home is None:
            rows.append(_Row(None))
        rows[-1 if home is None else home].leaves.append(i)
    return tuple(layer for row in rows for layer in _layers(row, leaves, root))


def _rows(events: Sequence[Event], leaves: Sequence[Leaf]) -> list[_Row]:
    """A row per event, with the modules whose variables belong to it."""
    layers = [event for event in events if event.kind in ("convolution", "dense")]
    multiplied = frozenset[int]().union(*(event.kernel for event in layers if event.of_input))
    rows = []
    for event in events:
        owners = {leaves[i].owner for i in event.kernel} if event.kind in ("convolution", "dense") else set()
        # a product of parameters alone is a layer (of a learned query), unless it only prepares another layer's kernel
        if owners and not event.of_input and event.kernel <= multiplied:
            event = replace(event, kind="product", operation="product", kernel=frozenset())
            owners = set()
        rows.append(_Row(event, {event.scope} if event.kind == "norm" else owners))
    return rows


def _home(places: Sequence[int], place: int) -> int | None:
    """Which of a module's rows a variable used at `place` belongs to: the last one before it, or the first after."""
    before = bisect.bisect_left(places, place)
    return places[before - 1] if before else places[0] if places else None


def _layers(row: _Row, leaves: Sequence[Leaf], root: str) -> list[Layer]:
    mine = [leaves[i] for i in row.leaves]
    event = row.event
    if event is None or event.kind == "use":
        seen, repeats = (event.receptive_field, event.repeats) if event else ((), 1)
        return [
            Layer(
                path="/".join(leaf.path),
                kind="parameter",
                operation="parameter" if event else "unused",
                output_shape=leaf.shape,
                receptive_field=seen,
                repeats=repeats,
                params=_size([leaf], "params"),
                batch_stats=_size([leaf], "batch_stats"),
            )
            for leaf in mine
            if leaf.collection in ("params", "batch_stats")
        ]
    return [
        Layer(
            path="/".join(_path(event, leaves)) or root,
            kind=event.kind,
            operation=event.operation,
            output_shape=event.shape,
            receptive_field=event.receptive_field,
            macs=event.macs * event.repeats,
            unpadded_macs=event.unpadded_macs * event.repeats,
            repeats=event.repeats,
            params=_size(mine, "params"),
            batch_stats=_size(mine, "batch_stats"),
        )
    ]


def _size(mine: Sequence[Leaf], collection: str) -> int:
    return sum(leaf.size for leaf in mine if leaf.collection == collection)


def _path(event: Event, leaves: Sequence[Leaf]) -> Path:
    """Module a row is named after: the owner of its kernel; of several, what their paths share, or the largest's."""
    kernel = [leaves[i] for i in sorted(event.kernel)]
    if not kernel:
        return event.scope
    same = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*(leaf.owner for leaf in kernel), strict=False))
    return tuple(names[0] for names in same) or max(kernel, key=lambda leaf: leaf.size).owner
