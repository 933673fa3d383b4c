"""Network in Network: convolutions whose filters are small perceptrons, and no dense layer.

Min Lin, Qiang Chen, Shuicheng Yan: "Network In Network", 2013, arXiv:1312.4400, section 3.1 (mlpconv), section 3.2
(global average pooling), figure 2. The paper prints no widths: the tables here are those of the authors' releases,
NIN-ImageNet and NIN-CIFAR10 in Caffe's model zoo, with their initial weights (normal, standard deviation in the table),
dropout 0.5 before the last mlpconv layers, and the activation after the last layer, so that no logit is negative.

Deviation: average pools over an odd number of pixels are padded on both sides (at 32 pixels they are Caffe's).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.models import Published, Variant
from research.nn.conv import HE_FAN_OUT, Conv, Dtype, Sizes
from research.nn.layers import Activation, Builder, Features, require_resolution
from research.nn.pooling import average_pool, global_average_pool, max_pool
from research.nn.trunk import scale_width
from research.values import Count, Fraction, Natural, Positive, Range

Mixings = Annotated[int, Range(low=0, high=2)]  # 1x1 layers of a row
MIX_INIT = nn.initializers.normal(0.05)


class MlpConv(nn.Module):
    """A k x k convolution and then 1x1 ones, each with its activation, "b *space c" -> "b *out widths[-1]".

    What the 1x1 layers make of a window is a perceptron with as many hidden layers (section 3.1, eq. 2).
    """

    widths: tuple[int, ...]
    kernel: Sizes
    stride: Sizes = 1
    padding: Sizes | None = None
    kernel_init: Callable[..., Array] = HE_FAN_OUT
    mix_init: Callable[..., Array] = HE_FAN_OUT
    conv: Builder = Conv
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *out d"]:
        """The maps of the last layer."""
        conv = functools.partial(self.conv, use_bias=True, dtype=self.dtype)
        window = {"padding": self.padding, "kernel_init": self.kernel_init}
        x = self.act(conv(self.widths[0], self.kernel, self.stride, **window, name="conv1")(x))
        for number, width in enumerate(self.widths[1:], 2):
            x = self.act(conv(width, 1, kernel_init=self.mix_init, name=f"conv{number}")(x))
        return x


@dataclass(frozen=True)
class MlpConvRow:
    """An mlpconv layer, the pool after it and whether dropout follows; `deviation` is of its first kernel's weights."""

    widths: tuple[int, ...]
    kernel: int
    stride: int = 1
    padding: int = 0
    deviation: float = 0.05
    pool: Literal["max", "average"] | None = None
    dropout: bool = False


class NetworkInNetwork(nn.Module):
    """Rows of mlpconv layers, the last 1x1 of which is `head`, then the mean of each map.

    "b *space c" -> float32 logits "b num_classes" (0: the means of the maps that `head` sees). Pools are 3x3 with
    stride 2, and the last window may hang over the end. `width_multiplier` scales every layer but `head`, rounded to a
    multiple of `channel_divisor`; each row keeps the first `mixings` of its 1x1 layers. Features `stage1`, `stage2` and
    so on are the rows before their pools.
    """

    rows: tuple[MlpConvRow, ...]
    minimum: int
    num_classes: Natural = 1000
    width_multiplier: Positive = 1.0
    channel_divisor: Count = 8
    mixings: Mixings = 2
    dropout: Fraction = 0.5
    head_init: Callable[..., Array] = MIX_INIT
    conv: Builder = Conv
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b outputs"]:
        """Logits, or pooled features."""
        require_resolution(f"this {type(self).__name__}", images.shape[1:-1], self.minimum)
        x = images
        for number, row in enumerate(self.rows, 1):
            block = MlpConv(
                widths=tuple(
                    scale_width(w, self.width_multiplier, self.channel_divisor) for w in row.widths[: 1 + self.mixings]
                ),
                kernel=row.kernel,
                stride=row.stride,
                padding=row.padding,
                kernel_init=nn.initializers.normal(row.deviation),
                mix_init=MIX_INIT,
                conv=self.conv,
                act=self.act,
                dtype=self.dtype,
                name=f"mlpconv{number}",
            )
            x = Features(name=f"stage{number}")(block(x))
            if row.pool == "max":
                x = max_pool(x, 3, 2, ceil=True)
            elif row.pool == "average":
                x = average_pool(x, 3, 2, "SAME", count_padding=False)
            if row.dropout and self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not train, name=f"dropout{number}")(x)
        if self.num_classes:
            head = {"use_bias": True, "kernel_init": self.head_init, "dtype": self.dtype, "name": "head"}
            x = self.act(self.conv(self.num_classes, 1, **head)(x))
        return global_average_pool(x)


# The authors' NIN-ImageNet: conv1, cccp1, cccp2, pool0 and so on; cccp8 is `head`.
IMAGENET = (
    MlpConvRow((96, 96, 96), 11, stride=4, deviation=0.01, pool="max"),
    MlpConvRow((256, 256, 256), 5, padding=2, pool="max"),
    MlpConvRow((384, 384, 384), 3, padding=1, deviation=0.01, pool="max", dropout=True),
    MlpConvRow((1024, 1024), 3, padding=1),
)
# The authors' NIN-CIFAR10; cccp6 is `head`.
CIFAR = (
    MlpConvRow((192, 160, 96), 5, padding=2, pool="max", dropout=True),
    MlpConvRow((192, 192, 192), 5, padding=2, pool="average", dropout=True),
    MlpConvRow((192, 192), 3, padding=1),
)


def nin_cifar(
    *,
    num_classes: Natural = 10,
    width_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    mixings: Mixings = 2,
    dropout: Fraction = 0.5,
    conv: Builder = Conv,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> NetworkInNetwork:
    """The form for images of 32 pixels; see `NetworkInNetwork`."""
    return NetworkInNetwork(
        rows=CIFAR,
        minimum=8,
        num_classes=num_classes,
        width_multiplier=width_multiplier,
        channel_divisor=channel_divisor,
        mixings=mixings,
        dropout=dropout,
        conv=conv,
        act=act,
        dtype=dtype,
    )


VARIANTS = {
    "nin": Variant(
        build=functools.partial(NetworkInNetwork, rows=IMAGENET, minimum=55, head_init=nn.initializers.normal(0.01)),
        input_shape=(224, 224, 3),
        num_classes=1000,
        minimum=55,
        summary="Network in Network: mlpconv, no dense layer (Lin et al. 2013, as released for ImageNet)",
        paper="arXiv:1312.4400",
    ),
    "nin_cifar": Variant(
        build=nin_cifar,
        input_shape=(32, 32, 3),
        num_classes=10,
        minimum=8,
        summary="Network in Network for small images (Lin et al. 2013, as released for CIFAR-10)",
        paper="arXiv:1312.4400",
        published=Published(91.19, "Lin et al. 2013, table 1: CIFAR-10 whitened, translations and flips"),
    ),
}
