"""What a step takes up on one device, by kind: from the shapes it is given, and from what the compiler says of it."""

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

import jax

PyTree = Any
AHEAD = 2  # feeds that a run has on its devices beside the one that the step reads (`Layout.ahead`)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_FIGURE = r"\(?([\d.]+)([KMGT]?)i?B?\)?"
# "... the total memory required for HLO temporaries (61.25G) exceeds available HBM (15.75G)", and
# "Used 61.25G of 15.75G hbm. Exceeded hbm capacity by 45.50G".
_EXHAUSTED = (rf"{_FIGURE} exceeds available \w+ {_FIGURE}", rf"Used {_FIGURE} of {_FIGURE}")


@dataclass(frozen=True)
class Footprint:
    """Bytes on one device, each array with the padding of its layout.

    All up to `learning_rate` are arguments of the step; outputs take the place of `donated` ones. `beside` is what a
    run has there besides: arrays that the step does not read (the evaluation split), and feeds placed ahead. Where the
    compiler gave up, no outputs nor code are known, maybe no temporaries, and no padding.
    """

    parameters: int
    optimizer_state: int
    batch_statistics: int
    averaged_weights: int
    other_state: int
    resident_data: int
    feed: int
    learning_rate: int
    outputs: int | None
    donated: int | None
    temporaries: int | None
    code: int | None
    beside: int

    @property
    def arguments(self) -> int:
        """All that the step is given and reads."""
        return sum(getattr(self, field.name) for field in dataclasses.fields(self)[:8])

    @property
    def state(self) -> int:
        """What of it a step replaces."""
        return self.arguments - self.resident_data - self.feed - self.learning_rate

    @property
    def total(self) -> int:
        """All that is there at once, as far as it is known."""
        made = (self.outputs or 0) - (self.donated or 0) + (self.temporaries or 0) + (self.code or 0)
        return self.arguments + made + self.beside


def of(arguments: tuple[PyTree, ...], compiled: Any = None) -> Footprint:
    """The account of a train step: of its placed argument shapes, and of the `jax.stages.Compiled` made of it."""
    leaves = jax.tree.leaves(arguments)
    layouts: list[Any] = [None] * len(leaves)
    unread = [False] * len(leaves)
    if compiled is not None:
        forms = jax.tree.leaves(compiled.input_formats[0], is_leaf=lambda x: x is None or hasattr(x, "layout"))
        layouts = [getattr(form, "layout", None) for form in forms]
        unread = [layout is None for layout in layouts]
    sizes = [padded(leaf, layout) for leaf, layout in zip(leaves, layouts, strict=True)]
    structure = jax.tree.structure(arguments)
    read = [0 if idle else size for size, idle in zip(sizes, unread, strict=True)]
    state, resident, feed, rate = jax.tree.unflatten(structure, read)
    kinds = {
        "parameters": state.params,
        "optimizer_state": state.opt_state,
        "batch_statistics": state.batch_stats,
        "averaged_weights": state.ema,
        "other_state": state.replace(params=(), opt_state=(), batch_stats=(), ema=()),
        "resident_data": resident,
        "feed": feed,
        "learning_rate": rate,
    }
    found = {kind: sum(jax.tree.leaves(tree)) for kind, tree in kinds.items()}
    stays = sum(size for size, idle in zip(sizes, unread, strict=True) if idle)
    ahead = AHEAD * sum(jax.tree.leaves(jax.tree.unflatten(structure, sizes)[2]))
    made = compiled.memory_analysis() if compiled is not None else None
    return Footprint(
        **found,
        outputs=made and made.output_size_in_bytes,
        donated=made and made.alias_size_in_bytes,
        temporaries=made and made.temp_size_in_bytes,
        code=made and made.generated_code_size_in_bytes,
        beside=stays + ahead,
    )


def padded(placed: Any, layout: Any) -> int:
    """Bytes that one device keeps of a placed shape in a layout: its last dimensions are whole tiles (None: unpadded).

    XLA's tiles: https://openxla.org/xla/tiled_layout. Tiles within a tile only reorder it.
    """
    shape = placed.sharding.shard_shape(placed.shape)
    if layout is not None and layout.tiling:
        tile = layout.tiling[0]
        shape = [shape[axis] for axis in layout.major_to_minor]
        shape = [1] * (len(tile) - len(shape)) + shape
        kept = len(shape) - len(tile)
        shape = shape[:kept] + [-(-size // side) * side for size, side in zip(shape[kept:], tile, strict=True)]
    return math.prod(shape) * placed.dtype.itemsize


@dataclass(frozen=True)
class Exhausted:
    """What the compiler says of a program that does not fit, in bytes; of the temporaries alone, or of everything."""

    needed: int
    available: int
    temporaries: bool


def exhausted(message: str) -> Exhausted | None:
    """The figures in the compiler's message; None where it has none."""
    for pattern in _EXHAUSTED:
        if found := re.search(pattern, message):
            needed, unit, available, other = found.groups()
            sizes = int(float(needed) * _UNITS[unit]), int(float(available) * _UNITS[other])
            return Exhausted(*sizes, temporaries="temporaries" in message[: found.start()])
    return None
