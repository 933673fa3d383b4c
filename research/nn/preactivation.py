"""Residual blocks whose norm and activation come before each convolution, so that x itself is carried on.

He, Zhang, Ren, Sun 2016, "Identity Mappings in Deep Residual Networks" (arXiv:1603.05027), figure 4 (e) and section 5.
Written for any spatial rank. A network of them begins with a bare convolution (`ConvStem`), ends with a norm and an
activation (`NormAct`), and in the first block of each stage the shortcut too starts after the first activation
(`PreActivationStage`), as in fb.resnet.torch.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.nn.blocks import add_shortcut
from research.nn.conv import Conv, Dtype, Sizes
from research.nn.layers import Activation, BatchNorm, Builder, configured, drop_path
from research.nn.pooling import max_pool
from research.nn.trunk import Stage


@dataclass(frozen=True)
class PreActivationStage(Stage):
    """A row whose first block activates its input before the shortcut leaves."""

    def arguments(self, index: int) -> dict[str, Any]:
        """What the block number `index` (from 0) of this row is built with."""
        return {**super().arguments(index), "activate_shortcut": index == 0}


class ConvStem(nn.Module):
    """A convolution and, with `pool`, a 3x3 max pool of stride 2; "b *space c" -> "b *out width".

    The first block has the norm and the activation.
    """

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
        y = self.conv(self.width, self.kernel, self.stride, dtype=self.dtype, name="conv")(x)
        return max_pool(y, 3, 2, 1) if self.pool else y


class NormAct(nn.Module):
    """Norm and activation, "b *space c" -> "b *space c": what follows the last stage."""

    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *space c"]:
        """The activated maps."""
        return self.act(configured(self.conv, self.norm, dtype=self.dtype, train=train)[1](name="norm")(x))


class PreActivationBlock(nn.Module):
    """Norm, activation, 3x3 convolution, twice, and a shortcut; "b *space c" -> "b *space/stride width".

    With `activate_shortcut` the shortcut starts after the first activation. Projections have no norm. `dropout` is
    applied before the second convolution (Zagoruyko and Komodakis 2016, arXiv:1605.07146, figure 1 (d)).
    """

    width: int
    stride: Sizes = 1
    shortcut: str = "B"
    activate_shortcut: bool = False
    dropout: float = 0.0
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    excite: Builder | None = None
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out width"]:
        """The sum, which the next block activates."""
        conv, norm = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        active = self.act(norm(name="norm1")(x))
        y = self.act(norm(name="norm2")(conv(self.width, 3, self.stride, name="conv1")(active)))
        y = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(y) if self.dropout else y
        y = conv(self.width, 3, name="conv2")(y)
        y = y if self.excite is None else self.excite(self.width, dtype=self.dtype, name="excite")(y)
        y = drop_path(self, y, self.drop_path, train=train)
        carried = active if self.activate_shortcut else x
        return add_shortcut(carried, y, stride=self.stride, option=self.shortcut, conv=conv, norm=None)


class PreActivationBottleneck(nn.Module):
    """Norm, activation and a 1x1, a 3x3 and a 1x1 convolution; "b *space c" -> "b *space/stride expansion*width".

    See `PreActivationBlock`. The 3x3 convolution strides.
    """

    width: int
    stride: Sizes = 1
    shortcut: str = "B"
    activate_shortcut: bool = False
    expansion: int = 4
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    excite: Builder | None = None
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out features"]:
        """The sum, which the next block activates."""
        conv, norm = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        features = self.expansion * self.width
        active = self.act(norm(name="norm1")(x))
        y = self.act(norm(name="norm2")(conv(self.width, 1, name="conv1")(active)))
        y = self.act(norm(name="norm3")(conv(self.width, 3, self.stride, name="conv2")(y)))
        y = conv(features, 1, name="conv3")(y)
        y = y if self.excite is None else self.excite(features, dtype=self.dtype, name="excite")(y)
        y = drop_path(self, y, self.drop_path, train=train)
        carried = active if self.activate_shortcut else x
        return add_shortcut(carried, y, stride=self.stride, option=self.shortcut, conv=conv, norm=None)
