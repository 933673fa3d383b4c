"""Cost of a network by parts: blocks that are alike are counted once, and not again for the next network with them.

For searches that need the totals of many networks of one family; `complexity.count` says the same of one, layer by
layer. No part is written twice: the network itself is traced, and each of its direct children that has been counted
before, with the same fields and input shape, is replaced by something of its output's shape.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.scaling import complexity

Key = tuple[Any, ...]
Path = tuple[str, ...]
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class Totals:
    """Exact sums over a network, as `complexity.Cost` has them."""

    macs: int
    params: int
    activations: int

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


@dataclass(frozen=True)
class _Part:
    totals: Totals
    output_shape: tuple[int, ...] | None


class Counter:
    """Counts networks, and remembers the parts that they are made of."""

    def __init__(self) -> None:
        self._parts: dict[Key, _Part] = {}

    @property
    def parts(self) -> int:
        """How many different parts it remembers."""
        return len(self._parts)

    def totals(self, model: nn.Module, input_shape: Iterable[int]) -> Totals:
        """Totals of `model` on a float32 input of `input_shape` ("b *space c"). Raises as `complexity.count` does."""
        used: list[tuple[Path, Key]] = []
        with nn.intercept_methods(self._standing_in(used)):
            whole = _sums(complexity.count(model, tuple(input_shape)))
        for called, (path, name) in enumerate(used):
            own = self._parts[name].totals
            again = any(other == path for other, _ in used[:called])  # a module that is called twice has one set
            whole += dataclasses.replace(own, params=0) if again else own
        return whole

    def _standing_in(self, used: list[tuple[Path, Key]]) -> Callable[..., Any]:
        """Puts something of its output's shape in the place of each direct child, which is counted where it is new."""
        inside = False  # a part

        def interceptor(call: Callable[..., Any], arguments: Any, keywords: Any, context: Any) -> Any:
            nonlocal inside
            name = None if inside else _key(arguments, keywords, context)
            if name is None:
                return call(*arguments, **keywords)
            if name not in self._parts:
                inside = True
                try:
                    cost = complexity.count(context.module.clone(parent=None), arguments[0].shape)
                finally:
                    inside = False
                self._parts[name] = _Part(_sums(cost), cost.output_shape)
            part = self._parts[name]
            if part.output_shape is None:  # not one array: the network is traced through it
                return call(*arguments, **keywords)
            if not context.module.is_initializing():  # a network is traced twice, and computes the second time
                used.append((context.module.path, name))
            return _like(arguments[0], part.output_shape)

        return interceptor


def _key(arguments: Any, keywords: Any, context: Any) -> Key | None:
    """What a direct child's cost depends on; None for anything else, which is traced with the network."""
    module = context.module
    plain = len(arguments) == 1 and isinstance(arguments[0], jax.Array) and set(keywords) <= {"train"}
    if context.method_name != "__call__" or len(module.path) != 1 or not plain:
        return None
    fields = (f.name for f in dataclasses.fields(module) if f.name not in ("parent", "name"))
    # Functions are told by their names: those made anew for every call (initial values) have another address each time.
    return type(module), arguments[0].shape, *(_ADDRESS.sub("", repr(getattr(module, name))) for name in fields)


def _like(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """An array of this shape that is made of `x`, so that what follows is a function of the images still."""
    return jnp.broadcast_to(jnp.ravel(x)[0], shape)


def _sums(cost: complexity.Cost) -> Totals:
    return Totals(cost.macs, cost.params, cost.activations)
