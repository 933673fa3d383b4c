"""Layers every family is made of: convolution, batch normalisation, pooling; written for any spatial rank.

Arrays are "b *space c": a batch, then one axis per spatial dimension, then channels (NHWC for images). Every layer
takes its rank from its input, so that one definition serves sequences, images and volumes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.errors import UserError

Dtype = Any
Sizes = int | tuple[int, ...]
Builder = Callable[..., nn.Module]  # a module class or a partial of one: what `conv`, `norm` and `block` fields hold

# He et al. 2015, "Delving Deep into Rectifiers" (arXiv:1502.01852), eq. 14: normal with variance 2 / (k^2 x output
# channels), the form that keeps the gradient's scale; fb.resnet.torch and torchvision's ResNets start from it too.
HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

# Ioffe and Szegedy 2015 (arXiv:1502.03167). `momentum` is the share of the old running value that is kept (PyTorch
# calls the complement so); 0.9 and 1e-5 are what fb.resnet.torch and torchvision use. Scale starts at 1, shift at 0.
BatchNorm = functools.partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5)


def spread(value: Sizes, rank: int) -> tuple[int, ...]:
    """One number per spatial axis: `3` at rank 2 is `(3, 3)`. Raises `UserError` where the count is not the rank."""
    sizes = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(sizes) != rank:
        raise UserError(f"{sizes} has {len(sizes)} sizes for an input with {rank} spatial axes")
    return sizes


def configured(conv: Builder, norm: Builder, *, dtype: Dtype, train: bool) -> tuple[Builder, Builder]:
    """`conv` and `norm` with what is the same at every place of a network: the compute type, and whether it trains."""
    return functools.partial(conv, dtype=dtype), functools.partial(norm, use_running_average=not train, dtype=dtype)


def per_channel(values: Float[Array, " c"], x: Float[Array, "b *space c"]) -> Float[Array, "..."]:
    """One value per channel in the rank and type of `x`, ready to be added to it or to multiply it."""
    return values.astype(x.dtype).reshape((1,) * (x.ndim - 1) + values.shape)


def require_resolution(who: str, space: Sequence[int], minimum: int) -> None:
    """Raise `UserError` where a side of `space` (pixels) is below `minimum`; the message names `who`."""
    if min(space) < minimum:
        size = "x".join(str(side) for side in space)
        raise UserError(f"{who} needs images of at least {minimum} pixels a side; got {size}")


class Conv(nn.Module):
    """Convolution, "b *space c" -> "b *space features"; symmetric zero padding of (kernel - 1) // 2 unless given.

    An axis of n pixels comes out with floor((n + 2 padding - kernel) / stride) + 1. Parameters: `kernel`
    [*kernel, c / groups, features] and, with `use_bias`, `bias`; both float32, computed with in `dtype`.
    Raises `UserError` where the padded input is smaller than the kernel.
    """

    features: int
    kernel: Sizes
    stride: Sizes = 1
    padding: Sizes | None = None
    groups: int = 1
    use_bias: bool = False
    kernel_init: Callable[..., Array] = HE_FAN_OUT
    bias_init: Callable[..., Array] = nn.initializers.zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *out features"]:
        """The convolved input."""
        size = spread(self.kernel, x.ndim - 2)
        kernel = self.param("kernel", self.kernel_init, (*size, x.shape[-1] // self.groups, self.features), jnp.float32)
        y = convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.padding, self.groups)
        if self.use_bias:
            y += per_channel(self.param("bias", self.bias_init, (self.features,), jnp.float32), y)
        return y


def convolve(
    x: Float[Array, "b *space c"],
    kernel: Float[Array, "*window in_channels features"],
    stride: Sizes = 1,
    padding: Sizes | None = None,
    groups: int = 1,
) -> Float[Array, "b *out features"]:
    """Convolution with a given kernel; `padding` None means (kernel - 1) // 2 pixels a side. Raises `UserError`."""
    rank = x.ndim - 2
    size = kernel.shape[:-2]
    around = tuple((k - 1) // 2 for k in size) if padding is None else spread(padding, rank)
    if any(n + 2 * p < k for n, p, k in zip(x.shape[1:-1], around, size, strict=True)):
        raise UserError(f"an input of {x.shape[1:-1]} pixels, padded by {around}, is smaller than a {size} kernel")
    axes = "DHW"[-rank:]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=spread(stride, rank),
        padding=[(p, p) for p in around],
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=groups,
    )


def max_pool(
    x: Float[Array, "b *space c"], window: Sizes, stride: Sizes, padding: Sizes = 0
) -> Float[Array, "b *out c"]:
    """Largest value of each window; the padding never wins."""
    rank = x.ndim - 2
    around = [(p, p) for p in spread(padding, rank)]
    return nn.max_pool(x, spread(window, rank), spread(stride, rank), around)


def average_pool(
    x: Float[Array, "b *space c"], window: Sizes, stride: Sizes, padding: Sizes = 0
) -> Float[Array, "b *out c"]:
    """Mean of each window; padding counts as zeros."""
    rank = x.ndim - 2
    around = [(p, p) for p in spread(padding, rank)]
    return nn.avg_pool(x, spread(window, rank), spread(stride, rank), around)


def global_average_pool(x: Float[Array, "b *space c"]) -> Float[Array, "b c"]:
    """Mean over all spatial axes, in float32 (Lin et al. 2013, arXiv:1312.4400, section 3.2)."""
    return jnp.mean(x, axis=range(1, x.ndim - 1), dtype=jnp.float32)


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
