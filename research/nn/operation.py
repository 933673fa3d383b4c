"""A JAX operation of our own: it means what a native one does, and the CPU may compute it in another way.

Such an operation is one equation in a jaxpr and carries the jaxpr of its meaning, so whatever walks jaxprs (the exact
counts of `research.scaling`) finds the native operations in it. GPU and TPU lower exactly that. On the CPU a function
of the operands' shapes says how it is computed. `CONVSCALE_LOWERING=native` makes that the meaning everywhere, which is
what stock JAX runs.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend import core
from jax.interpreters import mlir
from jaxtyping import Array

from research import backend

Compute = Callable[..., Array]
Shaped = Any  # an array, or its shape and type


@dataclass(frozen=True)
class Circumstances:
    """What a program is lowered for.

    `library`: it may call oneDNN, which is not one of XLA's own operations. That is so where it stays in this process
    (it is neither exported nor kept in a cache) and on one device (XLA can divide only what it knows).
    `divided`: the compiler divides its arrays over devices, so that a loop over the batch would move them between
    devices in every turn.
    """

    library: bool = False
    divided: bool = False


class Operation:
    """An operation with one result. `meaning(*shapes, **static)` gives the native function of the operands.

    `on_cpu(circumstances, *shapes, **static)` gives the function the CPU computes, or None for the native one. Shapes
    are `jax.ShapeDtypeStruct`s; static arguments are hashable. Derivatives and batching are registered on `primitive`.
    """

    def __init__(self, name: str, meaning: Callable[..., Compute], on_cpu: Callable[..., Compute | None]) -> None:
        self.primitive = core.Primitive(name)
        self._meaning, self._choose = meaning, on_cpu
        self._jaxpr = functools.cache(self._trace)
        self._compiled = functools.cache(self._compile)
        self.primitive.def_impl(lambda *operands, **params: self._compiled(tuple(params.items()))(*operands))
        self.primitive.def_abstract_eval(lambda *operands, jaxpr, **static: jaxpr.out_avals[0])
        mlir.register_lowering(self.primitive, mlir.lower_fun(_as_meant, multiple_results=False))
        mlir.register_lowering(self.primitive, self._lower_on_cpu, platform="cpu")

    def __call__(self, *operands: Array, **static: Hashable) -> Array:
        """The operation on arrays, traced or not."""
        jaxpr = self.meaning_of([jax.typeof(x) for x in operands], static)
        if backend.is_plain():
            return _as_meant(*operands, jaxpr=jaxpr)
        return self.primitive.bind(*operands, **static, jaxpr=jaxpr)

    def meaning_of(self, avals: Sequence[Any], static: dict[str, Any]) -> core.ClosedJaxpr:
        """The meaning for operands of these shapes and types: what an equation of this operation carries as `jaxpr`."""
        shapes = tuple((tuple(aval.shape), np.dtype(aval.dtype)) for aval in avals)
        return self._jaxpr(shapes, tuple(static.items()), avals[0].sharding.mesh)

    def _trace(self, shapes: tuple[Any, ...], static: tuple[tuple[str, Any], ...], mesh: Any) -> core.ClosedJaxpr:
        """The meaning for operands of these shapes, within `mesh`: what is traced inside of it belongs to it."""
        operands = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
        with jax.ensure_compile_time_eval():
            return jax.make_jaxpr(self._meaning(*operands, **dict(static)))(*operands)

    def _compile(self, params: tuple[tuple[str, Any], ...]) -> Compute:
        return jax.jit(lambda *operands: self.primitive.bind(*operands, **dict(params)))

    def _lower_on_cpu(
        self, ctx: mlir.LoweringRuleContext, *operands: Any, jaxpr: core.ClosedJaxpr, **static: Any
    ) -> Any:
        avals: Sequence[Any] = ctx.avals_in
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
        # A program for any size of batch is left as it is meant: which way is fast depends on the size.
        native = backend.lowering() == "native" or any(not isinstance(n, int) for x in shapes for n in x.shape)
        chosen = None if native else self._choose(_circumstances(ctx), *shapes, **static)
        compute = chosen or functools.partial(_as_meant, jaxpr=jaxpr)
        return mlir.lower_fun(compute, multiple_results=False)(ctx, *operands)


def _as_meant(*operands: Array, jaxpr: core.ClosedJaxpr, **static: Any) -> Array:
    return core.jaxpr_as_fun(jaxpr)(*operands)[0]


def _circumstances(ctx: mlir.LoweringRuleContext) -> Circumstances:
    context = ctx.module_context
    axes = context.axis_context
    devices = (axes.num_devices or 1) if isinstance(axes, mlir.ShardingContext) else 1
    leaves = context.lowering_parameters.for_export or len(context.platforms) > 1 or backend.keeps_programs()
    asked = backend.lowering() == "measured"
    alone = devices == 1
    return Circumstances(library=asked and backend.has_onednn() and alone and not leaves, divided=not alone)
