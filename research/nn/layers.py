"""Layers that two or more families are made of, beside convolution and pooling; written for any spatial rank.

Arrays are "b *space c": a batch, then one axis per spatial dimension, then channels (NHWC for images).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.errors import UserError
from research.nn import batch_norm
from research.nn.conv import Conv, Dtype, Padding, Sizes
from research.values import MOST_SIDE

Builder = Callable[..., nn.Module]  # a module class or a partial of one: what `conv`, `norm` and `block` fields hold
Activation = Callable[[Array], Array]

# Ioffe and Szegedy 2015 (arXiv:1502.03167). `momentum` is the share of the old running value that is kept (PyTorch
# calls the complement so); 0.9 and 1e-5 are what fb.resnet.torch and torchvision use. Scale starts at 1, shift at 0.
BatchNorm = functools.partial(batch_norm.BatchNorm, momentum=0.9, epsilon=1e-5)
LECUN = nn.initializers.lecun_normal()


@functools.cache
def fixed(builder: Builder, **keywords: Any) -> Builder:
    """`functools.partial`, but the same object for the same arguments, so that equal networks compare equal."""
    return functools.partial(builder, **keywords)


def configured(conv: Builder, norm: Builder, *, dtype: Dtype, train: bool) -> tuple[Builder, Builder]:
    """`conv` and `norm` with what is the same at every place of a network: the compute type, and whether it trains."""
    return functools.partial(conv, dtype=dtype), functools.partial(norm, use_running_average=not train, dtype=dtype)


def require_resolution(who: str, space: Sequence[int], minimum: int) -> None:
    """Raise `UserError` where a side of `space` (pixels) is below `minimum` or absurd; the message names `who`."""
    if min(space) < minimum:
        size = "x".join(str(side) for side in space)
        raise UserError(f"{who} needs images of at least {minimum} pixels a side; got {size}")
    if max(space) > MOST_SIDE:
        raise UserError(f"{who} is asked for images of {max(space)} pixels a side; expected at most {MOST_SIDE}")


def identity(x: Array) -> Array:
    """`x`: no activation."""
    return x


class NoNorm(nn.Module):
    """Its input: what a `norm` field holds where a network has no normalisation."""

    use_running_average: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        """`x`."""
        return x


class ConvNormAct(nn.Module):
    """Convolution (`conv`), norm (`norm`) and activation, "b *space c" -> "b *out width"; see `Conv` for the fields."""

    width: int
    kernel: Sizes = 3
    stride: Sizes = 1
    padding: Padding = None
    groups: int = 1
    dilation: Sizes = 1
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out width"]:
        """The activated maps."""
        conv, norm = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        given = {"padding": self.padding} if self.padding is not None else {}  # else what `conv` itself says
        given |= {"groups": self.groups, "dilation": self.dilation}
        return self.act(norm(name="norm")(conv(self.width, self.kernel, self.stride, **given, name="conv")(x)))


class Features(nn.Module):
    """Its input, under a name: `Features(name="stage3")(x)`. What `capture_intermediates` and Grad-CAM find."""

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        """`x`."""
        return x


def classify(
    features: Float[Array, "b f"],
    num_classes: int,
    *,
    train: bool,
    dropout: float = 0.0,
    kernel_init: Callable[..., Array] = LECUN,
    dtype: Dtype = jnp.float32,
) -> Float[Array, "b outputs"]:
    """Float32 logits of the dense layer `head` after dropout, or `features` where `num_classes` is 0.

    To be called inside a network's compact method. The bias starts at zero.
    """
    if num_classes == 0:
        return features.astype(jnp.float32)
    kept = nn.Dropout(dropout, deterministic=not train, name="dropout")(features) if dropout else features
    return nn.Dense(num_classes, kernel_init=kernel_init, dtype=dtype, name="head")(kept).astype(jnp.float32)


def drop_path(
    module: nn.Module, x: Float[Array, "b *space c"], rate: float, *, train: bool
) -> Float[Array, "b *space c"]:
    """In training, zero for each example with probability `rate`, else x / (1 - rate); x itself otherwise.

    Stochastic depth (Huang et al. 2016, arXiv:1603.09382), scaled in training instead of at test time, so that both
    have one mean. Draws from the `dropout` stream of `module`.
    """
    if not train or rate == 0:
        return x
    kept = jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(kept, x / (1 - rate), jnp.zeros_like(x))
