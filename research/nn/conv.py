"""Convolution for any spatial rank: the one file that knows how a convolution is computed.

Arrays are "b *space c": a batch, then one axis per spatial dimension, then channels (NHWC for images). The rank is the
input's, so that one definition serves sequences, images and volumes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.errors import UserError
from research.nn import initial
from research.nn.convolution import Geometry, convolution
from research.nn.sums import at_positions

Dtype = Any
Sizes = int | tuple[int, ...]
# None: as many pixels on each side as keep the size at stride 1. "SAME": TensorFlow's, ceil(n / stride) pixels come
# out, and the odd pixel of padding is at the end.
Padding = Sizes | Literal["SAME"] | None

# He et al. 2015, "Delving Deep into Rectifiers" (arXiv:1502.01852), eq. 14: normal with variance 2 / (k^2 x output
# channels), the form that keeps the gradient's scale; fb.resnet.torch and torchvision's ResNets start from it too.
HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def spread(value: Sizes, rank: int) -> tuple[int, ...]:
    """One number per spatial axis: `3` at rank 2 is `(3, 3)`. Raises `UserError` where the count is not the rank."""
    sizes = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(sizes) != rank:
        raise UserError(f"{sizes} has {len(sizes)} sizes for an input with {rank} spatial axes")
    return sizes


def per_channel(values: Float[Array, " c"], x: Float[Array, "b *space c"]) -> Float[Array, "..."]:
    """One value per channel in the shape and type of `x`, ready to be added to it or to multiply it."""
    return at_positions(values.astype(x.dtype), x.shape)


class Conv(nn.Module):
    """Convolution, "b *space c" -> "b *space features"; zero padding of dilation (kernel - 1) // 2 unless given.

    An axis of n pixels comes out with floor((n + 2 padding - kernel) / stride) + 1, and with ceil(n / stride) where
    `padding` is "SAME". `dilation` spreads the kernel's taps (atrous convolution). Parameters: `kernel`
    [*kernel, c / groups, features] and, with `use_bias`, `bias`; both float32, computed with in `dtype`.
    Raises `UserError` where the padded input is smaller than the kernel.
    """

    features: int
    kernel: Sizes
    stride: Sizes = 1
    padding: Padding = None
    groups: int = 1
    dilation: Sizes = 1
    use_bias: bool = False
    kernel_init: Callable[..., Array] = HE_FAN_OUT
    bias_init: Callable[..., Array] = nn.initializers.zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *out features"]:
        """The convolved input."""
        size = spread(self.kernel, x.ndim - 2)
        shape = (*size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", initial.values(self.kernel_init), shape, jnp.float32)
        arguments = (self.stride, self.padding, self.groups, self.dilation)
        y = convolve(x.astype(self.dtype), kernel.astype(self.dtype), *arguments)
        if self.use_bias:
            y += per_channel(self.param("bias", self.bias_init, (self.features,), jnp.float32), y)
        return y


def convolve(
    x: Float[Array, "b *space c"],
    kernel: Float[Array, "*window in_channels features"],
    stride: Sizes = 1,
    padding: Padding = None,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Float[Array, "b *out features"]:
    """Convolution with a given kernel; see `Conv`. Raises `UserError`."""
    rank = x.ndim - 2
    strides, spacing = spread(stride, rank), spread(dilation, rank)
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel.shape[:-2], spacing, strict=True))
    around = pads(x.shape[1:-1], reach, strides, tuple((r - 1) // 2 for r in reach) if padding is None else padding)
    if any(sum(p) + n < r for n, p, r in zip(x.shape[1:-1], around, reach, strict=True)):
        raise UserError(f"an input of {x.shape[1:-1]} pixels, padded by {around}, is smaller than a {reach} kernel")
    return convolution(x, kernel, Geometry(x.shape[1:-1], kernel.shape[:-2], strides, tuple(around), spacing, groups))


def pads(
    space: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...], padding: Sizes | Literal["SAME"]
) -> list[tuple[int, int]]:
    """(before, after) in pixels for each axis of `space`. Raises `UserError`."""
    if not isinstance(padding, str):
        return [(p, p) for p in spread(padding, len(space))]
    if padding != "SAME":
        raise UserError(f"padding is {padding!r}; expected pixels, SAME or None")
    missing = [max((-(-n // s) - 1) * s + w - n, 0) for n, w, s in zip(space, window, strides, strict=True)]
    return [(m // 2, m - m // 2) for m in missing]


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """`jax.lax.conv_general_dilated`, computed as ours: for `flax.linen.Conv(..., conv_general_dilated=...)`.

    What our own convolution cannot say is left to JAX's: other orders of dimensions than "N...C" with "...IO", spread
    inputs, groups of the batch, another precision or type of the result.
    """
    numbers = jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    rank = lhs.ndim - 2
    maps, spacing = (0, rank + 1, *range(1, rank + 1)), tuple(rhs_dilation or (1,) * rank)
    ours = numbers == jax.lax.ConvDimensionNumbers(maps, (rank + 1, rank, *range(rank)), maps)
    ours &= set(lhs_dilation or (1,)) == {1} and batch_group_count == 1 and precision is None
    if not ours or preferred_element_type not in (None, lhs.dtype) or lhs.dtype != rhs.dtype or not rank:
        return jax.lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
        )
    space, window, strides = lhs.shape[1:-1], rhs.shape[:-2], tuple(window_strides)
    if isinstance(padding, str):
        reach = [d * (k - 1) + 1 for k, d in zip(window, spacing, strict=True)]
        padding = jax.lax.padtype_to_pads(space, reach, strides, padding)
    around = tuple((int(low), int(high)) for low, high in padding)
    return convolution(lhs, rhs, Geometry(space, window, strides, around, spacing, feature_group_count))
