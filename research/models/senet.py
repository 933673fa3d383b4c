"""Residual networks with squeeze-and-excitation, for ImageNet.

Jie Hu, Li Shen, Gang Sun: "Squeeze-and-Excitation Networks", 2017, arXiv:1709.01507, figure 3, table 1 and the
appendix on SENet-154. As in the paper's release, bottlenecks stride on the first 1x1 (those of SENet-154 on the 3x3)
and the max pool has no padding but may hang over the end. Kernels start as He's, which the paper names, by fan-out as
in timm; dense layers, those of the excitations with them, as LeCun's.

Deviations: `se_resnet18` and `se_resnet34` excite after the second norm, like the others and figure 3; timm's legacy
form has one more activation before it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.models import Published, Variant
from research.models.resnet import BOTTLENECK_V1, INPUT_SHAPE, TOTAL_STRIDE, resnet
from research.nn.blocks import BasicBlock, Shortcut, add_shortcut, last_norm
from research.nn.conv import Conv, Dtype, Sizes, spread
from research.nn.layers import Activation, BatchNorm, Builder, configured, drop_path, fixed
from research.nn.pooling import max_pool
from research.nn.squeeze_excite import SqueezeExcite
from research.nn.trunk import SmallImageStem, Trunk
from research.values import Count, Fraction, Natural, Positive


def excitation(channels: int, *, reduction: int, dtype: Dtype, name: str) -> SqueezeExcite:
    """Squeeze-and-excitation with a `reduction`-th of `channels` in its middle."""
    return SqueezeExcite(max(1, channels // reduction), dtype=dtype, name=name)


class Entry(nn.Module):
    """The stem: convolutions, each with norm and activation, and a max pool that may hang over the end.

    "b *space c" -> "b *out width". `rows` are (part of the width, kernel, stride) of the convolutions.
    """

    width: int
    rows: tuple[tuple[float, int, int], ...] = ((1, 7, 2),)
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out width"]:
        """What the first stage sees."""
        conv, norm = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        for number, (part, kernel, stride) in enumerate(self.rows, 1):
            y = conv(int(part * self.width), kernel, stride, name=f"conv{number}")(x)
            x = self.act(norm(name=f"norm{number}")(y))
        return max_pool(x, 3, 2, ceil=True)


class SENetBlock(nn.Module):
    """SENet-154's bottleneck, "b *space c" -> "b *space/stride 4*width".

    Its first 1x1 convolution has half as many channels as its grouped 3x3 (2 and 4 times `width`, or the next lower
    numbers that `groups` divides), and a projection that strides is 3x3.
    """

    width: int
    stride: Sizes = 1
    shortcut: str = "B"
    groups: int = 64
    excite: Builder | None = None
    zero_init: bool = False
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out features"]:
        """The block's output, after the last activation."""
        conv, norm = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        features, half = 4 * self.width, max(1, 2 * self.width // self.groups) * self.groups
        y = self.act(norm(name="norm1")(conv(half, 1, name="conv1")(x)))
        y = self.act(norm(name="norm2")(conv(2 * half, 3, self.stride, groups=self.groups, name="conv2")(y)))
        y = last_norm(norm, zero_init=self.zero_init)(name="norm3")(conv(features, 1, name="conv3")(y))
        y = y if self.excite is None else self.excite(features, dtype=self.dtype, name="excite")(y)
        y = drop_path(self, y, self.drop_path, train=train)
        kernel = 1 if set(spread(self.stride, x.ndim - 2)) == {1} else 3
        parts = {"conv": conv, "norm": norm}
        return self.act(add_shortcut(x, y, stride=self.stride, option=self.shortcut, kernel=kernel, **parts))


DEEP_ENTRY = functools.partial(Entry, rows=((0.5, 3, 2), (0.5, 3, 1), (1, 3, 1)))


def se_resnet(
    *,
    block: Builder,
    blocks: tuple[int, ...],
    num_classes: Natural = 1000,
    reduction: Count = 16,
    width: Count = 64,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    stem: SmallImageStem = "imagenet",
    shortcut: Shortcut = "B",
    zero_init_residual: bool = False,
    stochastic_depth: Fraction = 0.0,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """A residual network whose blocks weight their channels; `reduction` divides their number in between.

    See `research.models.resnet.resnet` for the rest.
    """
    network = resnet(
        block=fixed(block, excite=fixed(excitation, reduction=reduction)),
        blocks=blocks,
        num_classes=num_classes,
        width=width,
        width_multiplier=width_multiplier,
        depth_multiplier=depth_multiplier,
        channel_divisor=channel_divisor,
        stem=stem,
        shortcut=shortcut,
        zero_init_residual=zero_init_residual,
        stochastic_depth=stochastic_depth,
        conv=conv,
        norm=norm,
        act=act,
        dtype=dtype,
    )
    return network if stem == "cifar" else network.clone(stem=Entry)


def senet(
    *,
    blocks: tuple[int, ...],
    num_classes: Natural = 1000,
    reduction: Count = 16,
    groups: Count = 64,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    dropout: Fraction = 0.2,
    shortcut: Shortcut = "B",
    zero_init_residual: bool = False,
    stochastic_depth: Fraction = 0.0,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """The appendix's network: three 3x3 convolutions for a stem, `SENetBlock`s of `groups` groups, dropout at the end.

    See `research.models.resnet.resnet` for the rest.
    """
    network = resnet(
        block=fixed(SENetBlock, groups=groups, excite=fixed(excitation, reduction=reduction)),
        blocks=blocks,
        num_classes=num_classes,
        width_multiplier=width_multiplier,
        depth_multiplier=depth_multiplier,
        channel_divisor=channel_divisor,
        shortcut=shortcut,
        zero_init_residual=zero_init_residual,
        stochastic_depth=stochastic_depth,
        conv=conv,
        norm=norm,
        act=act,
        dtype=dtype,
    )
    return network.clone(stem=DEEP_ENTRY, stem_width=2 * network.stem_width, dropout=dropout)


class Row(NamedTuple):
    """The block, how many of it each stage has, and the top-1 of table 2."""

    block: Builder
    blocks: tuple[int, ...]
    top1: float | None = None


# Hu et al. 2017, tables 1 and 2 (errors 23.29, 22.38 and 21.57%).
ROWS = {
    "se_resnet18": Row(BasicBlock, (2, 2, 2, 2)),
    "se_resnet34": Row(BasicBlock, (3, 4, 6, 3)),
    "se_resnet50": Row(BOTTLENECK_V1, (3, 4, 6, 3), 76.71),
    "se_resnet101": Row(BOTTLENECK_V1, (3, 4, 23, 3), 77.62),
    "se_resnet152": Row(BOTTLENECK_V1, (3, 8, 36, 3), 78.43),
}
SENET154 = (3, 8, 36, 3)


def _variant(build: Callable[..., Trunk], blocks: tuple[int, ...], what: str, published: Published | None) -> Variant:
    return Variant(
        build=build,
        input_shape=INPUT_SHAPE,
        num_classes=1000,
        minimum=TOTAL_STRIDE["imagenet"],
        summary=f"{what}, {'-'.join(map(str, blocks))} blocks (Hu et al. 2017)",
        paper="arXiv:1709.01507",
        published=published,
    )


def _se_resnet(row: Row) -> Variant:
    published = row.top1 and Published(row.top1, "Hu et al. 2017, table 2: one crop of 224 pixels")
    build = functools.partial(se_resnet, block=row.block, blocks=row.blocks)
    return _variant(build, row.blocks, "residual network with squeeze-and-excitation", published or None)


VARIANTS = {name: _se_resnet(row) for name, row in ROWS.items()} | {
    "senet154": _variant(
        functools.partial(senet, blocks=SENET154),
        SENET154,
        "SENet-154: wide grouped bottlenecks with squeeze-and-excitation",
        Published(81.32, "Hu et al. 2017, table 8: one crop of 224 pixels"),
    )
}
