"""Squeeze-and-excitation: each channel is weighted by what the whole image says about it.

Hu, Shen, Sun 2017, "Squeeze-and-Excitation Networks" (arXiv:1709.01507), eq. 2 to 4 and figure 2.
"""

import functools
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.nn import initial
from research.nn.conv import Dtype
from research.nn.layers import LECUN, Activation
from research.nn.pooling import global_average_pool


class SqueezeExcite(nn.Module):
    """x times gate(expand(act(reduce(mean of x over space)))), "b *space c" -> "b *space c".

    `reduced` is the number of units between the dense layers `reduce` and `expand` (the paper: c / 16).
    """

    is_gate: ClassVar[bool] = True  # what it computes weighs maps and is none: see `research.scaling.complexity`
    reduced: int
    act: Activation = nn.relu
    gate: Activation = nn.sigmoid
    kernel_init: Callable[..., Array] = LECUN
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        """The weighted maps."""
        channels = x.shape[-1]
        squeezed = global_average_pool(x)
        dense = functools.partial(nn.Dense, kernel_init=initial.values(self.kernel_init), dtype=self.dtype)
        weights = self.gate(dense(channels, name="expand")(self.act(dense(self.reduced, name="reduce")(squeezed))))
        return x * weights.astype(x.dtype).reshape((x.shape[0],) + (1,) * (x.ndim - 2) + (channels,))
