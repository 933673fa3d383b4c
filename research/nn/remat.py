"""Rematerialisation: activations inside a block are computed again in the backward pass instead of kept.

Chen, Xu, Zhang, Guestrin 2016, "Training Deep Nets with Sublinear Memory Cost" (arXiv:1604.06174).
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from flax.core import lift

from research.ordering import after

PyTree = Any


def recomputed(function: Callable[..., PyTree], *arguments: PyTree) -> PyTree:
    """`function(*arguments)`, of which only the arguments are kept for the backward pass, where it is computed again.

    `jax.checkpoint` does the same with an optimization barrier, which XLA's CPU backend drops: it then merges the two
    computations and keeps everything. The order here is `research.ordering.after`'s.
    """
    # Traced once: Flax counts random draws while it traces, and both passes must draw the same.
    program, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)

    def run(constants: PyTree, *leaves: Any) -> PyTree:
        return jax.tree.unflatten(jax.tree.structure(shape), jax.core.eval_jaxpr(program.jaxpr, constants, *leaves))

    def forward(constants: PyTree, *leaves: Any) -> tuple[PyTree, PyTree]:
        return run(constants, *leaves), (constants, *leaves)

    def backward(kept: PyTree, cotangents: PyTree) -> PyTree:
        return jax.vjp(run, *after(kept, cotangents))[1](cotangents)

    call = jax.custom_vjp(run)
    call.defvjp(forward, backward)
    # What the function closed over is an argument like the others: it may be traced, and differentiated.
    return call(program.consts, *jax.tree.leaves(arguments))


def _lifted(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """`recomputed` for a function of Flax scopes: their variables and random streams become arguments."""

    def inner(scope_of: Any, repack: Any, variables: PyTree, streams: PyTree, *arguments: PyTree) -> PyTree:
        def run(variables: PyTree, streams: PyTree, *arguments: PyTree) -> PyTree:
            scope = scope_of(variables, streams)
            return function(scope, *arguments), repack(scope)

        return recomputed(run, variables, streams, *arguments)

    return lift.pack(inner, (True,), (True,), (True,), name="remat")


def remat(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """A function (module, arrays) -> arrays whose inside is computed again in the backward pass."""
    return nn.transforms.lift_transform(_lifted, function)
