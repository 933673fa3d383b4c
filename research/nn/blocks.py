"""Residual blocks and their plain twins, and the shortcut options that make one or the other.

He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition" (arXiv:1512.03385): eq. 1 and 2, figure 5,
and the shortcut options A, B and C of section 4.1. Written for any spatial rank. Those whose norm and activation come
before the convolutions are in `research.nn.preactivation`.

Both blocks take `excite`, which is called with their output channels for a module that weights the channels of F(x)
before it is added (squeeze-and-excitation), and `zero_init`, with which the scale of the last norm starts at 0, so that
a block is its shortcut at first (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
"""

import functools
from typing import Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.errors import UserError, unknown
from research.nn.conv import Conv, Dtype, Sizes, spread
from research.nn.layers import Activation, BatchNorm, Builder, configured, drop_path

Shortcut = Literal["A", "B", "C", "none"]
SHORTCUTS: tuple[str, ...] = get_args(Shortcut)


def pad_shortcut(x: Float[Array, "b *space c"], features: int, stride: Sizes) -> Float[Array, "b *out features"]:
    """Option A: every `stride`-th pixel, and zeros for the channels that are new; it has no parameters."""
    strided = x[(slice(None), *(slice(None, None, step) for step in spread(stride, x.ndim - 2)))]
    return jnp.pad(strided, [(0, 0)] * (x.ndim - 1) + [(0, features - x.shape[-1])])


def add_shortcut(
    x: Float[Array, "b *space c"],
    residual: Float[Array, "b *out features"],
    *,
    stride: Sizes,
    option: str,
    conv: Builder,
    norm: Builder | None,
    kernel: Sizes = 1,
) -> Float[Array, "b *out features"]:
    """F(x) + x with x brought to the shape of `residual`; to be called inside a block's compact method.

    A: no parameters, zeros for new channels. B: a projection (`kernel` convolution, and norm where there is one) where
    the shape changes and the identity elsewhere. C: projections everywhere. none: F(x) alone, the plain network.
    Raises `UserError` on any other.
    """
    features = residual.shape[-1]
    same = set(spread(stride, x.ndim - 2)) == {1} and x.shape[-1] == features
    if option == "none":
        return residual
    if option == "C" or (option == "B" and not same):
        projected = conv(features, kernel, stride, name="shortcut_conv")(x)
        return residual + (projected if norm is None else norm(name="shortcut_norm")(projected))
    if option == "A" and not same:
        return residual + pad_shortcut(x, features, stride)
    if option not in SHORTCUTS:
        raise unknown("shortcut", option, SHORTCUTS)
    return residual + x


def last_norm(norm: Builder, *, zero_init: bool) -> Builder:
    """`norm` as a block's last, whose scale starts at 0 with `zero_init`."""
    return functools.partial(norm, scale_init=nn.initializers.zeros) if zero_init else norm


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (figure 5 left), "b *space c" -> "b *space/stride width"."""

    width: int
    stride: Sizes = 1
    shortcut: str = "B"
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    excite: Builder | None = None
    zero_init: bool = False
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out width"]:
        """The block's output, after the last activation."""
        conv, norm = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        y = self.act(norm(name="norm1")(conv(self.width, 3, self.stride, name="conv1")(x)))
        y = last_norm(norm, zero_init=self.zero_init)(name="norm2")(conv(self.width, 3, name="conv2")(y))
        y = y if self.excite is None else self.excite(self.width, dtype=self.dtype, name="excite")(y)
        y = drop_path(self, y, self.drop_path, train=train)
        return self.act(add_shortcut(x, y, stride=self.stride, option=self.shortcut, conv=conv, norm=norm))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut (figure 5 right), "b *space c" -> "b *space/stride expansion*width".

    `stride_on` names the convolution that strides: "3x3" as in fb.resnet.torch and torchvision ("v1.5"), which is
    more accurate and costs more, or "1x1" as in the paper's own release.

    The 3x3 convolution has `groups` groups of `base_width` channels each where `width` is 64, and in proportion where
    it is more: 32 and 4 make ResNeXt's block (Xie et al. 2016, arXiv:1611.05431, table 1), 1 and 128 that of a wide
    ResNet-50 (Zagoruyko and Komodakis 2016, arXiv:1605.07146). The block's output stays as wide.
    """

    width: int
    stride: Sizes = 1
    shortcut: str = "B"
    stride_on: Literal["1x1", "3x3"] = "3x3"
    expansion: int = 4
    groups: int = 1
    base_width: int = 64
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    excite: Builder | None = None
    zero_init: bool = False
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out features"]:
        """The block's output, after the last activation."""
        conv, norm = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        first, second = (self.stride, 1) if self.stride_on == "1x1" else (1, self.stride)
        inner, features = max(1, self.width * self.base_width // 64) * self.groups, self.expansion * self.width
        y = self.act(norm(name="norm1")(conv(inner, 1, first, name="conv1")(x)))
        y = self.act(norm(name="norm2")(conv(inner, 3, second, groups=self.groups, name="conv2")(y)))
        y = last_norm(norm, zero_init=self.zero_init)(name="norm3")(conv(features, 1, name="conv3")(y))
        y = y if self.excite is None else self.excite(features, dtype=self.dtype, name="excite")(y)
        y = drop_path(self, y, self.drop_path, train=train)
        return self.act(add_shortcut(x, y, stride=self.stride, option=self.shortcut, conv=conv, norm=norm))


def check_stochastic_depth(rate: float, shortcut: str) -> None:
    """Raise `UserError` where blocks without a shortcut would be dropped: nothing would be left of the image."""
    if rate and shortcut == "none":
        raise UserError(f"stochastic_depth is {rate:g}, and a plain network has no shortcut to leave; expected 0")
