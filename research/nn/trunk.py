"""One network for every table of stages: stem, stages of blocks, global average pool, dense head."""

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.nn.layers import (
    BatchNorm,
    Builder,
    Conv,
    Dtype,
    configured,
    global_average_pool,
    max_pool,
    require_resolution,
)
from research.nn.remat import remat


@dataclass(frozen=True)
class Stage:
    """A row of an architecture's table: `blocks` blocks of `width` channels, the first with `stride`."""

    blocks: int
    width: int
    stride: int = 1


class Stem(nn.Module):
    """Convolution, norm, activation and, with `pool`, a 3x3 max pool of stride 2; "b *space c" -> "b *out width"."""

    width: int
    kernel: int = 3
    stride: int = 1
    pool: bool = False
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Callable[[Array], Array] = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out width"]:
        """What the first stage sees."""
        conv, norm = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        y = self.act(norm(name="norm")(conv(self.width, self.kernel, self.stride, name="conv")(x)))
        return max_pool(y, 3, 2, 1) if self.pool else y


class Trunk(nn.Module):
    """A network as its table: `stem(stem_width)`, then each `Stage` row's `block(width, stride=...)`, pool and head.

    "b *space c" -> float32 logits "b num_classes", or the pooled features where `num_classes` is 0. Everything that
    varies is a field: `stem`, `block`, `conv`, `norm` and `act` build the parts. Parameters are float32 and are called
    `stem/...`, `stage2_block1/...`, `head`; `dtype` is the compute type. Raises `UserError` below `minimum` pixels.
    The head starts from LeCun's normal initialisation and zero bias, as in Flax. `remat` computes the inside of each
    block again in the backward pass. `stochastic_depth` is the rate at which the last block's residual is dropped in
    training, growing linearly from 0 before the first (Huang et al. 2016, arXiv:1603.09382, section 3).
    """

    stem_width: int
    stages: tuple[Stage, ...]
    num_classes: int
    block: Builder
    stem: Builder = Stem
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Callable[[Array], Array] = nn.relu
    minimum: int = 1
    remat: bool = False
    stochastic_depth: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b outputs"]:
        """Logits, or pooled features."""
        require_resolution(f"this {type(self).__name__}", images.shape[1:-1], self.minimum)
        parts = {"conv": self.conv, "norm": self.norm, "act": self.act, "dtype": self.dtype}
        x = self.stem(self.stem_width, **parts, name="stem")(images, train=train)
        rows = [(f"stage{n}_block{i + 1}", s, i) for n, s in enumerate(self.stages, 1) for i in range(s.blocks)]
        for depth, (name, stage, index) in enumerate(rows, 1):
            stride = stage.stride if index == 0 else 1
            drop = {"drop_path": self.stochastic_depth * depth / len(rows)} if self.stochastic_depth else {}
            block = self.block(stage.width, stride=stride, **parts, **drop, name=name)
            x = self._applied(block, x, train=train)
        features = global_average_pool(x)
        if self.num_classes == 0:
            return features
        return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(features).astype(jnp.float32)

    def _applied(self, block: nn.Module, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out d"]:
        def call(module: nn.Module, x: Array) -> Array:
            return module(x, train=train)

        return remat(call)(block, x) if self.remat else call(block, x)
