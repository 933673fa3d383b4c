"""Receptive fields: which input positions one element of an array depends on, followed through operations on shapes.

The field of an array is an extent per spatial axis of the input and, for each array dimension, how far apart in the
input two neighbours are: the jump of Araujo et al. 2019, "Computing receptive fields of convolutional neural networks".
A dimension is a product of factors, so that flattening, patching and space-to-depth stay exact. Where positions can no
longer be told apart (a class token appended) the factor has no jump, and mixing along it sees the whole input. So does
whatever depends on all positions: a gate behind a global pool, statistics of a norm that are not stored.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction


@dataclass(frozen=True)
class Factor:
    """`size` positions of an array dimension along input `axes`, `jump` input positions apart (None: unknown)."""

    size: int
    axes: tuple[int, ...] = ()
    jump: Fraction | None = None


Dimension = tuple[Factor, ...]


def length(dimension: Dimension) -> int:
    """Positions of a dimension."""
    return math.prod(factor.size for factor in dimension)


def axes_of(dimensions: Iterable[Dimension]) -> set[int]:
    """Input axes that any of the dimensions runs along."""
    return {axis for dimension in dimensions for factor in dimension for axis in factor.axes}


def opaque(size: int, axes: Iterable[int]) -> Dimension:
    """A dimension along `axes` whose positions can no longer be told apart."""
    return (Factor(size, tuple(sorted(set(axes)))),)


@dataclass(frozen=True)
class Field:
    """What one element sees: `extent` per input axis, of an input of `whole` positions; `dimensions` of the array."""

    dimensions: tuple[Dimension, ...]
    extent: tuple[Fraction, ...]
    whole: tuple[int, ...]

    @classmethod
    def of_input(cls, shape: Sequence[int]) -> "Field":
        """The field of the input itself: dimension 0 is the batch, the last one channels, those between are spatial."""
        spatial = range(1, len(shape) - 1)
        dimensions = [
            (Factor(n, (d - 1,), Fraction(1)),) if d in spatial else (Factor(n),) for d, n in enumerate(shape)
        ]
        return cls(tuple(dimensions), tuple(Fraction(1) for _ in spatial), tuple(shape[1:-1]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(map(length, self.dimensions))

    @property
    def receptive_field(self) -> tuple[int, ...]:
        """Input positions seen along each spatial axis, those beyond the border included."""
        return tuple(math.ceil(extent) for extent in self.extent)

    @property
    def axes(self) -> set[int]:
        """Input axes along which this array still has positions."""
        return axes_of(self.dimensions)

    def grown(self, axis: int, by: Fraction, capped: bool = False) -> "Field":
        """The extent along `axis` plus `by`; `capped`: all positions were mixed, so no further than the whole input."""
        before = self.extent[axis]
        after = min(before + by, max(before, Fraction(self.whole[axis]))) if capped else before + by
        return replace(self, extent=(*self.extent[:axis], after, *self.extent[axis + 1 :]))

    def widened(self, axes: Iterable[int]) -> "Field":
        """The field of something that may depend on every position along `axes`."""
        field = self
        for axis in axes:
            field = field.grown(axis, Fraction(self.whole[axis]), capped=True)
        return field

    def mixed(self, dimension: int) -> "Field":
        """Extents after a sum over `dimension`; the dimension itself stays."""
        field = self
        for factor in self.dimensions[dimension]:
            if factor.jump is None:
                field = field.widened(factor.axes)
            else:
                field = field.grown(factor.axes[0], (factor.size - 1) * factor.jump, capped=True)
        return field

    def reduced(self, dimensions: Iterable[int]) -> "Field":
        """The field after `dimensions` are summed away."""
        gone, field = set(dimensions), self
        for dimension in gone:
            field = field.mixed(dimension)
        return replace(field, dimensions=tuple(d for i, d in enumerate(self.dimensions) if i not in gone))

    def resized(self, shape: Sequence[int]) -> "Field":
        """The field of an array that keeps this one's positions, apart from the dimensions whose length changed."""
        return replace(self, dimensions=tuple(map(resize, self.dimensions, shape)))

    def unknown(self, shape: Sequence[int]) -> "Field":
        """The field of an array that may mix everything: sees the whole input, and its positions mean nothing."""
        wide = self.widened(range(len(self.whole)))
        return replace(wide, dimensions=tuple((Factor(n),) for n in shape))

    def reshaped(self, shape: Sequence[int]) -> "Field":
        """The field after a row-major reshape."""
        factors = [f for dimension in self.dimensions for f in dimension if f.size != 1]
        dimensions: list[Dimension] = []
        for size in shape:
            taken: list[Factor] = []
            while length(tuple(taken)) < size:
                need, head = size // length(tuple(taken)), factors.pop(0)
                if head.size <= need and need % head.size == 0:
                    taken.append(head)
                elif head.size % need == 0:
                    inner = head.size // need
                    taken.append(replace(head, size=need, jump=None if head.jump is None else head.jump * inner))
                    factors.insert(0, replace(head, size=inner))
                else:
                    return replace(self, dimensions=tuple(opaque(n, self.axes) for n in shape))
            dimensions.append(tuple(taken) or (Factor(1),))
        return replace(self, dimensions=tuple(dimensions))

    def windowed(self, dimension: int, window: "Window", size: int) -> "Field":
        """The field after a window slides along `dimension`, which becomes `size` long."""
        old, field = self.dimensions[dimension], self
        if len(old) == 1 and old[0].jump is not None:
            factor, jump = old[0], old[0].jump / window.base_dilation
            whole = size == 1 and (window.taps - 1) * window.dilation == (factor.size - 1) * window.base_dilation
            field = field.grown(factor.axes[0], window.spread * old[0].jump, capped=whole)
            new: Dimension = (Factor(size, factor.axes, jump * window.stride),)
        else:
            axes = axes_of([old])
            field = field.widened(axes) if window.taps > 1 else field
            new = old if size == length(old) else opaque(size, axes)
        return replace(field, dimensions=(*self.dimensions[:dimension], new, *self.dimensions[dimension + 1 :]))


@dataclass(frozen=True)
class Window:
    """A window along one dimension: taps `dilation` apart, elements `base_dilation` apart, moved by `stride`."""

    taps: int
    stride: int = 1
    dilation: int = 1
    base_dilation: int = 1

    @property
    def spread(self) -> int:
        """Input steps between the first and the last real element that one position of the window can touch."""
        if self.base_dilation == 1:
            return (self.taps - 1) * self.dilation
        positions = [tap * self.dilation for tap in range(self.taps)]
        phases = [[p for p in positions if p % self.base_dilation == phase] for phase in range(self.base_dilation)]
        return max((phase[-1] - phase[0]) // self.base_dilation for phase in phases if phase)


def resize(dimension: Dimension, size: int) -> Dimension:
    """The dimension cut or padded to `size`."""
    if length(dimension) == size:
        return dimension
    return (replace(dimension[0], size=size),) if len(dimension) == 1 else opaque(size, axes_of([dimension]))
