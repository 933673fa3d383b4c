"""Depthwise-separable convolution, and what grew out of it: the inverted residual (MBConv) and its fused form.

Howard et al. 2017, "MobileNets" (arXiv:1704.04861), figure 3: `DepthwiseSeparable`. Sandler et al. 2018,
"MobileNetV2: Inverted Residuals and Linear Bottlenecks" (arXiv:1801.04381), figure 4; Howard et al. 2019 (MobileNetV3,
arXiv:1905.02244), figure 4; Tan and Le 2019 (EfficientNet, arXiv:1905.11946); Tan and Le 2021 (EfficientNetV2,
arXiv:2104.00298), figure 2, for the fused form: `InvertedResidual`. Written for any spatial rank.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.nn.conv import Conv, Dtype, Sizes, spread
from research.nn.layers import LECUN, Activation, BatchNorm, Builder, ConvNormAct, drop_path, fixed, identity
from research.nn.squeeze_excite import SqueezeExcite
from research.nn.trunk import SmallImageStem, Stage, Stem, divisible

# "same": TensorFlow's, the odd pixel of padding at the end, as in Google's releases; "symmetric": as many pixels on
# each side, as torchvision and timm train their own.
ReleasePadding = Literal["same", "symmetric"]

# Momentum of MobileNetV3 (section 6.1.1) and of EfficientNet (section 5.2; its second version has 0.9); epsilon is a
# field of each network.
GoogleBatchNorm = functools.partial(BatchNorm, momentum=0.99, epsilon=1e-5)

# MobileNets' release (tensorflow/models, slim) starts every kernel so, depthwise and dense ones too.
SLIM_INIT = nn.initializers.truncated_normal(0.09)
SlimConv = functools.partial(Conv, kernel_init=SLIM_INIT)

# EfficientNets' release (tensorflow/tpu): `Conv`'s own initialiser with the fan-out of one group, hence variance
# 2 / k^2 for a depthwise kernel, and a dense layer uniform within 1 / sqrt(outputs).
DEPTHWISE_INIT: Callable[..., Array] = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
HEAD_INIT = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")

# The strided stem of all these networks, and its form for small images: see `for_stem`.
STEMS: dict[str, Builder] = {"imagenet": functools.partial(Stem, stride=2), "cifar": Stem}
TOTAL_STRIDE = {"imagenet": 32, "cifar": 8}
RowType = TypeVar("RowType", bound=Stage)


def for_stem(stages: tuple[RowType, ...], stem: SmallImageStem) -> tuple[RowType, ...]:
    """The rows behind a stem: the first that strides does not for small images, as the stem does not."""
    if stem == "imagenet":
        return stages
    first = next((index for index, stage in enumerate(stages) if stage.stride != 1), None)
    if first is None:
        return stages
    return (*stages[:first], dataclasses.replace(stages[first], stride=1), *stages[first + 1 :])


def padded(conv: Builder, padding: ReleasePadding) -> Builder:
    """`conv` with a release's padding wherever it is not told another."""
    return fixed(conv, padding="SAME") if padding == "same" else conv


class DepthwiseSeparable(nn.Module):
    """A k x k filter for each channel, then a 1x1 convolution, each with norm and activation.

    "b *space c" -> "b *space/stride width"; k x k c + c width weights where a convolution has k x k c width.
    """

    width: int
    stride: Sizes = 1
    kernel: Sizes = 3
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out width"]:
        """The activated maps."""
        layer = functools.partial(ConvNormAct, conv=self.conv, norm=self.norm, act=self.act, dtype=self.dtype)
        x = layer(x.shape[-1], self.kernel, self.stride, groups=x.shape[-1], name="depthwise")(x, train=train)
        return layer(self.width, 1, name="pointwise")(x, train=train)


@dataclass(frozen=True)
class Excite:
    """What an inverted residual's squeeze-and-excitation is like.

    It squeezes to `ratio` times the channels that enter the block ("input": EfficientNet) or those that it has widened
    them to ("expanded": MobileNetV3), rounded to a multiple of `divisor`.
    """

    ratio: float
    of: Literal["input", "expanded"] = "input"
    divisor: int = 1
    act: Activation = nn.relu
    gate: Activation = nn.sigmoid
    kernel_init: Callable[..., Array] = LECUN


@dataclass(frozen=True, kw_only=True)
class InvertedStage(Stage):
    """A row of inverted residuals: the depthwise kernel, and how many times wider the middle is than the input."""

    kernel: Sizes = 3
    expansion: float = 6


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the channels, depthwise k x k, 1x1 back to `width`; "b *space c" -> "b *out width".

    Each convolution has a norm; the last has no activation (a linear `bottleneck`) unless it is "relu", for which read
    `act`. The input is added where the stride is 1 and the widths are equal, if `shortcut`. With an expansion of 1 the
    first convolution is left out. `fused`: the first two are one k x k convolution, and with an expansion of 1 all
    three are. `excite` weighs the widened maps. The widened maps are a multiple of `divisor`. `depthwise_init` is the
    depthwise kernel's initialiser; None: that of `conv`. `drop_path` is the rate of stochastic depth.
    """

    width: int
    stride: Sizes = 1
    kernel: Sizes = 3
    expansion: float = 6
    fused: bool = False
    excite: Excite | None = None
    bottleneck: Literal["linear", "relu"] = "linear"
    shortcut: bool = True
    divisor: int = 1
    depthwise_init: Callable[..., Array] | None = None
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu6
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out width"]:
        """The block's output."""
        layer = functools.partial(ConvNormAct, conv=self.conv, norm=self.norm, act=self.act, dtype=self.dtype)
        expanded = divisible(self.expansion * x.shape[-1], self.divisor)
        y = x
        if self.fused:
            features = self.width if self.expansion == 1 else expanded
            y = layer(features, self.kernel, self.stride, name="fused")(y, train=train)
        else:
            if self.expansion != 1:
                y = layer(expanded, 1, name="expand")(y, train=train)
            initial = {} if self.depthwise_init is None else {"kernel_init": self.depthwise_init}
            depthwise = functools.partial(layer, groups=y.shape[-1], conv=functools.partial(self.conv, **initial))
            y = depthwise(y.shape[-1], self.kernel, self.stride, name="depthwise")(y, train=train)
        if self.excite is not None:
            y = self._excited(self.excite, x.shape[-1], y)
        if not (self.fused and self.expansion == 1):
            act = identity if self.bottleneck == "linear" else self.act
            y = layer(self.width, 1, act=act, name="project")(y, train=train)
        if self.shortcut and set(spread(self.stride, x.ndim - 2)) == {1} and x.shape[-1] == self.width:
            y = x + drop_path(self, y, self.drop_path, train=train)
        return y

    def _excited(self, how: Excite, entering: int, y: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        reduced = divisible(how.ratio * (entering if how.of == "input" else y.shape[-1]), how.divisor)
        return SqueezeExcite(reduced, how.act, how.gate, how.kernel_init, self.dtype, name="excite")(y)
