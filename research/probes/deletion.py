"""What a network loses with each of its blocks."""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.probes._subject import Subject

_BLOCK = re.compile(r"stage\d+_block\d+")
_TOGETHER = 8  # networks without a block that are computed at once


def block_deletion_errors(subject: Subject) -> dict[str, jax.Array]:
    """Error without each block in turn, float32 [] by the block's name: the block is replaced by the identity.

    Blocks are modules called `stageN_blockM`; those that change the shape cannot be left out and are not among them
    (Veit, Wilber, Belongie 2016, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks",
    arXiv:1605.06431, section 4.1). In evaluation. Of a network without such blocks there is nothing.
    """
    blocks = _blocks(subject)
    if not blocks:
        return {}

    def without(deleted: jax.Array) -> jax.Array:
        def identity(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
            output = call(*arguments, **keywords)
            name = "/".join(context.module.path)
            if context.method_name != "__call__" or name not in blocks:
                return output
            return jnp.where(deleted == blocks.index(name), arguments[0], output)

        with nn.intercept_methods(identity):
            return jnp.mean(subject.error(subject.in_evaluation()))

    errors = jax.lax.map(without, jnp.arange(len(blocks)), batch_size=_TOGETHER)
    return dict(zip(blocks, errors, strict=True))


def _blocks(subject: Subject) -> list[str]:
    """Names of the blocks whose output has the shape of their input, in the order they run."""
    found: list[str] = []

    def note(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*arguments, **keywords)
        name = "/".join(context.module.path)
        if context.method_name == "__call__" and _BLOCK.fullmatch(name) and arguments[0].shape == output.shape:
            found.append(name)
        return output

    def forward() -> Any:
        with nn.intercept_methods(note):
            return subject.in_evaluation()

    jax.eval_shape(forward)
    return found
