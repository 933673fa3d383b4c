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
    output_shape: tuple[int, ...]


class Counter:
    """Counts networks, and remembers the parts that they are made of."""

    def __init__(self) -> None:
        self._parts: dict[Key | None, _Part] = {}

    @property
    def parts(self) -> int:
        """How many different parts it remembers."""
        return len(self._parts)

    def totals(self, model: nn.Module, input_shape: Iterable[int]) -> Totals:
        """Totals of `model` on a float32 input of `input_shape` ("b *space c"). Raises as `complexity.count` does."""
        shape = tuple(input_shape)
        used: list[Key | None] = []
        missing: dict[Key | None, tuple[nn.Module, tuple[int, ...], tuple[int, ...]]] = {}
        with nn.intercept_methods(self._noting(used, missing)):
            images, key = jax.ShapeDtypeStruct(shape, jnp.float32), jax.eval_shape(jax.random.key, 0)
            jax.eval_shape(lambda k, x: model.init(k, x, train=False), key, images)
        for name, (part, seen, given) in missing.items():
            if name not in self._parts:
                self._parts[name] = _Part(_sums(complexity.count(part, seen)), given)
        with nn.intercept_methods(self._standing_in):
            whole = _sums(complexity.count(model, shape))
        return sum((self._parts[name].totals for name in used), start=whole)

    def _noting(self, used: list[Key | None], missing: dict[Key | None, Any]) -> Callable[..., Any]:
        """Notes each direct child that is called, and what is not known of it."""

        def interceptor(call: Callable[..., Any], arguments: Any, keywords: Any, context: Any) -> Any:
            name = _key(arguments, keywords, context)
            known = self._parts[name].output_shape if name in self._parts else missing.get(name, (None,) * 3)[2]
            output = call(*arguments, **keywords) if known is None else _like(arguments[0], known)
            if name is not None and isinstance(output, jax.Array):
                used.append(name)
                missing.setdefault(name, (context.module.clone(parent=None), arguments[0].shape, output.shape))
            return output

        return interceptor

    def _standing_in(self, call: Callable[..., Any], arguments: Any, keywords: Any, context: Any) -> Any:
        name = _key(arguments, keywords, context)
        if name not in self._parts:
            return call(*arguments, **keywords)
        return _like(arguments[0], self._parts[name].output_shape)


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
