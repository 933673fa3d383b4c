"""Atrous spatial pyramid pooling and transposed convolution, for any spatial rank.

Atrous convolution itself, whose taps are spread, is `Conv` with a `dilation`.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.errors import UserError
from research.nn.conv import HE_FAN_OUT, Conv, Dtype, Sizes, convolve, per_channel, spread
from research.nn.layers import Activation, BatchNorm, Builder, ConvNormAct
from research.nn.pooling import global_average_pool


class AtrousSpatialPyramid(nn.Module):
    """The same maps seen at several scales, "b *space c" -> "b *space width".

    Chen, Papandreou, Schroff, Adam 2017, "Rethinking Atrous Convolution for Semantic Image Segmentation"
    (arXiv:1706.05587), section 3.3: in parallel a 1x1 convolution, a 3x3 one for each of `rates` (those of output
    stride 16; at 8 they double) and the mean of the whole image, joined and projected by a 1x1 convolution.
    """

    width: int = 256
    rates: tuple[int, ...] = (6, 12, 18)
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *space width"]:
        """The projected maps."""
        parts = {"conv": self.conv, "norm": self.norm, "act": self.act, "dtype": self.dtype}
        branch = functools.partial(ConvNormAct, self.width, **parts)
        views = [branch(kernel=1, name="pointwise")(x, train=train)]
        for rate in self.rates:
            views.append(branch(dilation=rate, name=f"atrous{rate}")(x, train=train))
        mean = global_average_pool(x).reshape(x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
        mean = branch(kernel=1, name="image")(mean, train=train)
        views.append(jnp.broadcast_to(mean, (*x.shape[:-1], self.width)))
        return branch(kernel=1, name="project")(jnp.concatenate(views, axis=-1), train=train)


class ConvTranspose(nn.Module):
    """Transposed convolution, "b *space c" -> "b *space features": the gradient of `Conv` with regard to its input.

    An axis of n pixels comes out with (n - 1) stride - 2 padding + kernel; `padding` is (kernel - 1) // 2 unless given.
    Each input pixel adds its multiple of the kernel to the output (Dumoulin and Visin 2016, arXiv:1603.07285,
    section 4). Parameters: `kernel` [*kernel, c, features] and, with `use_bias`, `bias`; both float32, computed with in
    `dtype`. Raises `UserError` where nothing is left of the output.
    """

    features: int
    kernel: Sizes
    stride: Sizes = 1
    padding: Sizes | None = None
    use_bias: bool = False
    kernel_init: Callable[..., Array] = HE_FAN_OUT
    bias_init: Callable[..., Array] = nn.initializers.zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *out features"]:
        """The larger maps."""
        rank = x.ndim - 2
        size, strides = spread(self.kernel, rank), spread(self.stride, rank)
        around = tuple((k - 1) // 2 for k in size) if self.padding is None else spread(self.padding, rank)
        rows = zip(x.shape[1:-1], size, strides, around, strict=True)
        space = [(n - 1) * s - 2 * p + k for n, k, s, p in rows]
        if min(space) < 1:
            raise UserError(f"{x.shape[1:-1]} pixels come out of this transposed convolution as {tuple(space)}")
        kernel = self.param("kernel", self.kernel_init, (*size, x.shape[-1], self.features), jnp.float32)
        backwards = jnp.swapaxes(kernel, -1, -2).astype(self.dtype)
        large = jax.ShapeDtypeStruct((x.shape[0], *space, self.features), self.dtype)
        (y,) = jax.linear_transpose(lambda y: convolve(y, backwards, strides, around), large)(x.astype(self.dtype))
        if self.use_bias:
            y += per_channel(self.param("bias", self.bias_init, (self.features,), jnp.float32), y)
        return y
