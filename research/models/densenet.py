"""DenseNets for ImageNet and CIFAR-10: each layer sees the maps of all layers before it in its stage.

Gao Huang, Zhuang Liu, Laurens van der Maaten, Kilian Weinberger: "Densely Connected Convolutional Networks", 2016,
arXiv:1608.06993, table 1 (ImageNet; `densenet161` and `densenet264` are of the released code and of its last version)
and table 2 (CIFAR-10). A layer adds `growth_rate` channels. The forms of section 3 are options: `bottleneck` puts a 1x1
convolution of 4 x growth rate channels before the 3x3 ("B"), `compression` is the part of the channels that a
transition keeps ("C": below 1). `dropout` follows every convolution but the first (0.2 in the paper where CIFAR is not
augmented). Kernels start as He's (section 4.2), by fan-out as in fb.resnet.torch, which the release is built on
(torchvision's: by fan-in), the dense layer's as LeCun's.

The first layer of a stage begins with the transition, so that a stage's features are all that its layers made.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.models import Published, Variant, resnet, resnet_cifar
from research.nn.conv import Conv, Dtype, Sizes, spread
from research.nn.layers import Activation, BatchNorm, Builder, configured, fixed
from research.nn.pooling import average_pool
from research.nn.preactivation import ConvStem, NormAct
from research.nn.trunk import SmallImageStem, Stage, Trunk, scale, scale_width
from research.values import Count, Fraction, Natural, Positive, Share

BOTTLENECK_WIDTH = 4  # times the growth rate (section 3)


class Transition(nn.Module):
    """Norm, activation, 1x1 convolution and average pool; "b *space c" -> "b *space/stride compression*c"."""

    compression: float
    stride: Sizes = 2
    dropout: float = 0.0
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out kept"]:
        """Smaller maps, and fewer."""
        conv, norm = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        y = conv(int(self.compression * x.shape[-1]), 1, name="conv")(self.act(norm(name="norm")(x)))
        y = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(y) if self.dropout else y
        return average_pool(y, self.stride, self.stride)


class DenseLayer(nn.Module):
    """Its input and, after it, `width` new channels: "b *space c" -> "b *space/stride c+width".

    Norm, activation, 3x3 convolution; with `bottleneck` the same with a 1x1 before. Where `stride` is not 1 a
    transition comes first, and c is what it keeps.
    """

    width: int
    stride: Sizes = 1
    bottleneck: bool = True
    compression: float = 0.5
    dropout: float = 0.0
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out features"]:
        """Old channels, then new ones."""
        conv, norm = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        if set(spread(self.stride, x.ndim - 2)) != {1}:
            parts = {"conv": self.conv, "norm": self.norm, "act": self.act, "dtype": self.dtype}
            transition = Transition(self.compression, self.stride, self.dropout, **parts, name="transition")
            x = transition(x, train=train)
        y = x
        rows = ((BOTTLENECK_WIDTH * self.width, 1), (self.width, 3)) if self.bottleneck else ((self.width, 3),)
        for number, (features, kernel) in enumerate(rows, 1):
            active = self.act(norm(name=f"norm{number}")(y))
            y = conv(features, kernel, name=f"conv{number}")(active)
            y = nn.Dropout(self.dropout, deterministic=not train, name=f"dropout{number}")(y) if self.dropout else y
        return jnp.concatenate([x, y.astype(x.dtype)], axis=-1)


def densenet(
    *,
    layers: tuple[int, ...],
    num_classes: Natural = 1000,
    growth_rate: Count = 32,
    bottleneck: bool = True,
    compression: Share = 0.5,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    stem: SmallImageStem = "imagenet",
    dropout: Fraction = 0.0,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """The network of one column of table 1: four dense blocks behind a stem of twice `growth_rate` channels.

    The multipliers scale the growth rate, the stem and the number of layers of each block; widths are then rounded to a
    multiple of `channel_divisor`.
    """
    stages = [Stage(count, growth_rate, stride) for count, stride in zip(layers, (1, 2, 2, 2), strict=True)]
    return Trunk(
        stem_width=scale_width(2 * growth_rate, width_multiplier, channel_divisor),
        stages=scale(stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        block=fixed(DenseLayer, bottleneck=bottleneck, compression=compression, dropout=dropout),
        stem=resnet.STEMS[stem],
        final=NormAct,
        conv=conv,
        norm=norm,
        act=act,
        minimum=resnet.TOTAL_STRIDE[stem],
        dtype=dtype,
    )


def cifar_densenet(
    *,
    layers: int,
    num_classes: Natural = 10,
    growth_rate: Count = 12,
    bottleneck: bool = True,
    compression: Share = 0.5,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    dropout: Fraction = 0.0,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """Three dense blocks of `layers` layers each at 32, 16 and 8 pixels, behind a bare 3x3 convolution (section 3).

    That has twice `growth_rate` channels with bottleneck and compression, and 16 otherwise.
    """
    stem_width = 2 * growth_rate if bottleneck and compression < 1 else 16
    stages = [Stage(layers, growth_rate, stride) for stride in (1, 2, 2)]
    return Trunk(
        stem_width=scale_width(stem_width, width_multiplier, channel_divisor),
        stages=scale(stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        block=fixed(DenseLayer, bottleneck=bottleneck, compression=compression, dropout=dropout),
        stem=ConvStem,
        final=NormAct,
        conv=conv,
        norm=norm,
        act=act,
        minimum=resnet_cifar.TOTAL_STRIDE,
        dtype=dtype,
    )


class Row(NamedTuple):
    """Layers of each dense block, growth rate, top-1 and where that is printed."""

    layers: tuple[int, ...]
    growth_rate: int
    top1: float
    source: str = "Huang et al. 2016, table 3: one crop of 224 pixels"


# Huang et al. 2016, table 1.
IMAGENET = {
    "densenet121": Row((6, 12, 24, 16), 32, 74.98),
    "densenet169": Row((6, 12, 32, 32), 32, 76.20),
    "densenet201": Row((6, 12, 48, 32), 32, 77.42),
    "densenet161": Row(
        (6, 12, 36, 24), 48, 77.138, "torchvision's documentation, IMAGENET1K_V1: one crop of 224 pixels"
    ),
    "densenet264": Row((6, 12, 64, 48), 32, 77.85),
}
# Huang et al. 2016, table 2: layers of each block, top-1 on CIFAR-10 with flips and translations, what is fixed.
CIFAR: dict[str, tuple[int, float, dict[str, Any]]] = {
    "densenet_40_12": (12, 94.76, {"growth_rate": 12, "bottleneck": False, "compression": 1.0}),
    "densenet_bc_100_12": (16, 95.49, {"growth_rate": 12}),
    "densenet_bc_190_40": (31, 96.54, {"growth_rate": 40}),
}


def _imagenet(row: Row) -> Variant:
    blocks = "-".join(map(str, row.layers))
    return Variant(
        build=functools.partial(densenet, layers=row.layers, growth_rate=row.growth_rate),
        input_shape=resnet.INPUT_SHAPE,
        num_classes=1000,
        minimum=resnet.TOTAL_STRIDE["imagenet"],
        summary=f"DenseNet-BC, blocks of {blocks} layers, growth rate {row.growth_rate} (Huang et al. 2016, table 1)",
        paper="arXiv:1608.06993",
        published=Published(row.top1, row.source),
    )


def _cifar(layers: int, top1: float, fixed: dict[str, Any]) -> Variant:
    return Variant(
        build=functools.partial(cifar_densenet, layers=layers, **fixed),
        input_shape=resnet_cifar.INPUT_SHAPE,
        num_classes=10,
        minimum=resnet_cifar.TOTAL_STRIDE,
        summary=f"DenseNet for small images, 3 x {layers} layers, growth {fixed['growth_rate']} (Huang et al. 2016)",
        paper="arXiv:1608.06993",
        published=Published(top1, "Huang et al. 2016, table 2: CIFAR-10, flips and translations"),
    )


VARIANTS = {name: _imagenet(row) for name, row in IMAGENET.items()} | {
    name: _cifar(*row) for name, row in CIFAR.items()
}
