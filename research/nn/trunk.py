"""One network for every table of stages: stem, stages of blocks, global average pool, dense head."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.nn.conv import Conv, Dtype, Sizes
from research.nn.layers import (
    LECUN,
    Activation,
    BatchNorm,
    Builder,
    Features,
    classify,
    configured,
    require_resolution,
)
from research.nn.pooling import global_average_pool, max_pool, place_pool
from research.nn.remat import remat

SmallImageStem = Literal["imagenet", "cifar"]  # cifar: a 3x3 convolution of stride 1 and no pool, for images of 32 px

Pool = Literal["average", "places"]  # places: also where each channel is highest, for heads that say where things are
POOLS: dict[str, Callable[[Array], Array]] = {"average": global_average_pool, "places": place_pool}


@dataclass(frozen=True)
class Stage:
    """A row of an architecture's table: `blocks` blocks of `width` channels, the first with `stride`.

    A family whose table has more columns adds fields in a class of its own; each block is built with all of them but
    `blocks` and `block`. `block` is what this row is made of where rows differ in it; None: the trunk's.
    """

    blocks: int
    width: int
    stride: Sizes = 1
    block: Builder | None = None

    def arguments(self, index: int) -> dict[str, Any]:
        """What the block number `index` (from 0) of this row is built with."""
        row = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("blocks", "block")}
        return row if index == 0 else {**row, "stride": 1}


RowType = TypeVar("RowType", bound=Stage)


def divisible(channels: float, divisor: int = 8) -> int:
    """`channels` rounded to a multiple of `divisor`, never below 90% of it (MobileNet's and EfficientNet's rule)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def scale_width(width: int, multiplier: float, divisor: int = 8) -> int:
    """A width times `multiplier`, rounded by `divisible`; as it is where the multiplier is 1."""
    return width if multiplier == 1 else divisible(width * multiplier, divisor)


def scale_depth(blocks: int, multiplier: float) -> int:
    """A number of blocks times `multiplier`, rounded up (Tan and Le 2019, the released code)."""
    return math.ceil(blocks * multiplier)


def scale(
    stages: Sequence[RowType], *, width: float = 1.0, depth: float = 1.0, divisor: int = 8
) -> tuple[RowType, ...]:
    """The rows with their widths and numbers of blocks multiplied; see `scale_width` and `scale_depth`."""
    return tuple(
        dataclasses.replace(s, width=scale_width(s.width, width, divisor), blocks=scale_depth(s.blocks, depth))
        for s in stages
    )


class Stem(nn.Module):
    """Convolution, norm, activation and, with `pool`, a 3x3 max pool of stride 2; "b *space c" -> "b *out width"."""

    width: int
    kernel: Sizes = 3
    stride: Sizes = 1
    pool: bool = False
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out width"]:
        """What the first stage sees."""
        conv, norm = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        y = self.act(norm(name="norm")(conv(self.width, self.kernel, self.stride, name="conv")(x)))
        return max_pool(y, 3, 2, 1) if self.pool else y


class Trunk(nn.Module):
    """A network as its table: `stem(stem_width)`, each `Stage` row's blocks, `final`, pool, `neck`, dropout and head.

    "b *space c" -> float32 logits "b num_classes", or the features that the head would see where `num_classes` is 0.
    Everything that varies is a field: `stem`, `block`, `conv`, `norm` and `act` build the parts; `final`, where there
    is one, sees the maps after the last stage, and `neck` the pooled features. Parameters are float32 and are called
    `stem/...`, `stage2_block1/...`, `final/...`, `neck/...`, `head`; each stage's output is that of a module `stage2`.
    `dtype` is the compute type. Raises `UserError` below `minimum` pixels. `remat` computes the inside of each block
    again in the backward pass. `stochastic_depth` is the rate at which the last block's residual is dropped in
    training, growing linearly from 0: before the first block (Huang et al. 2016, arXiv:1603.09382, section 3), or at
    the first block where `drop_first` is false (EfficientNet's release). `pool` turns the last maps into features.
    """

    stem_width: int
    stages: tuple[Stage, ...]
    num_classes: int
    block: Builder
    stem: Builder = Stem
    final: Builder | None = None
    neck: Builder | None = None
    dropout: float = 0.0
    head_init: Callable[..., Array] = LECUN
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    minimum: int = 1
    remat: bool = False
    stochastic_depth: float = 0.0
    drop_first: bool = True
    pool: Pool = "average"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b outputs"]:
        """Logits, or pooled features."""
        require_resolution(f"this {type(self).__name__}", images.shape[1:-1], self.minimum)
        parts = {"conv": self.conv, "norm": self.norm, "act": self.act, "dtype": self.dtype}
        x = self.stem(self.stem_width, **parts, name="stem")(images, train=train)
        depth, total = 0, sum(stage.blocks for stage in self.stages)
        for number, stage in enumerate(self.stages, 1):
            for index in range(stage.blocks):
                rate = self.stochastic_depth * (depth + self.drop_first) / total
                drop = {"drop_path": rate} if rate else {}
                name = f"stage{number}_block{index + 1}"
                block = (stage.block or self.block)(**stage.arguments(index), **parts, **drop, name=name)
                x = self._applied(block, x, train=train)
                depth += 1
            x = Features(name=f"stage{number}")(x)
        if self.final is not None:
            x = self.final(**parts, name="final")(x, train=train)
        features = POOLS[self.pool](x)
        if self.neck is not None:
            features = self.neck(dtype=self.dtype, name="neck")(features)
        return classify(
            features,
            self.num_classes,
            train=train,
            dropout=self.dropout,
            kernel_init=self.head_init,
            dtype=self.dtype,
        )

    def _applied(self, block: nn.Module, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out d"]:
        def call(module: nn.Module, x: Array) -> Array:
            return module(x, train=train)

        return remat(call)(block, x) if self.remat else call(block, x)
