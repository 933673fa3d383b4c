"""VGG networks: nothing but 3x3 convolutions, 2x2 max pools and three dense layers.

Karen Simonyan, Andrew Zisserman: "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014,
arXiv:1409.1556, table 1, columns A (`vgg11`), B (13), D (16) and E (19). Weights start as Glorot and Bengio's, which
the paper names as enough (section 3.1; its own deep networks began from the trained weights of net A), biases at 0.

`vgg11_bn` to `vgg19_bn` are not in the paper: they are torchvision's, with batch normalisation after each convolution,
whose bias stays; kernels start as He's by fan-out, dense ones from N(0, 0.01). Deviation from that port: the last maps
are flattened as they are, where the port resizes them to 7x7, which is the identity at 224 pixels.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.models import Published, Variant
from research.nn.conv import HE_FAN_OUT, Conv, Dtype
from research.nn.hidden import classify_by_hidden_layers
from research.nn.layers import Activation, BatchNorm, Builder, Features, configured, require_resolution
from research.nn.pooling import max_pool
from research.nn.trunk import Stage, scale, scale_width
from research.values import Count, Fraction, Natural, Positive

MINIMUM = 32
WIDTHS = (64, 128, 256, 512, 512)
GLOROT = nn.initializers.glorot_uniform()
GAUSSIAN = nn.initializers.normal(0.01)


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each followed by a 2x2 max pool, then two hidden layers of `hidden` units.

    "b *space c" -> float32 logits "b num_classes" (0: the `hidden` features). Without a `norm` there is none. Features
    `stage1` to `stage5` are what the pools see.
    """

    stages: tuple[Stage, ...]
    num_classes: int
    hidden: int
    dropout: float
    kernel_init: Callable[..., Array]
    hidden_init: Callable[..., Array]
    minimum: int = MINIMUM
    conv: Builder = Conv
    norm: Builder | None = None
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b outputs"]:
        """Logits, or the last hidden layer."""
        require_resolution(f"this {type(self).__name__}", images.shape[1:-1], self.minimum)
        conv, norm = configured(self.conv, self.norm or BatchNorm, dtype=self.dtype, train=train)
        x = images
        for number, stage in enumerate(self.stages, 1):
            for index in range(1, stage.blocks + 1):
                name = f"stage{number}_conv{index}"
                x = conv(stage.width, 3, use_bias=True, kernel_init=self.kernel_init, name=name)(x)
                if self.norm is not None:
                    x = norm(name=f"stage{number}_norm{index}")(x)
                x = self.act(x)
            x = max_pool(Features(name=f"stage{number}")(x), 2, 2)
        return classify_by_hidden_layers(
            x,
            self.num_classes,
            width=self.hidden,
            train=train,
            dropout=self.dropout,
            act=self.act,
            kernel_init=self.hidden_init,
            dtype=self.dtype,
        )


def vgg(
    *,
    blocks: tuple[int, ...],
    batch_norm: bool,
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    hidden: Count = 4096,
    dropout: Fraction = 0.5,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> VGG:
    """The network of one column of table 1; `norm` is used with `batch_norm` only.

    The multipliers scale every stage, the width also the hidden layers; widths are then rounded to a multiple of
    `channel_divisor`.
    """
    stages = [Stage(count, width) for count, width in zip(blocks, WIDTHS, strict=True)]
    return VGG(
        stages=scale(stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        hidden=scale_width(hidden, width_multiplier, channel_divisor),
        dropout=dropout,
        kernel_init=HE_FAN_OUT if batch_norm else GLOROT,
        hidden_init=GAUSSIAN if batch_norm else GLOROT,
        conv=conv,
        norm=norm if batch_norm else None,
        act=act,
        dtype=dtype,
    )


# Simonyan and Zisserman 2014, table 1: the column, its convolutions in each stage, and the top-1 of torchvision's
# weights without and with batch normalisation.
COLUMNS = {
    11: ("A", (1, 1, 2, 2, 2), 69.020, 70.370),
    13: ("B", (2, 2, 2, 2, 2), 69.928, 71.586),
    16: ("D", (2, 2, 3, 3, 3), 71.592, 73.360),
    19: ("E", (2, 2, 4, 4, 4), 72.376, 74.218),
}


def _variant(depth: int, batch_norm: bool) -> Variant:
    column, blocks, plain, normalised = COLUMNS[depth]
    port = f"VGG{depth}_BN_Weights" if batch_norm else f"VGG{depth}_Weights"
    note = " with batch normalisation" if batch_norm else ""
    return Variant(
        build=functools.partial(vgg, blocks=blocks, batch_norm=batch_norm),
        input_shape=(224, 224, 3),
        num_classes=1000,
        minimum=MINIMUM,
        summary=f"VGG of {depth} layers{note} (Simonyan and Zisserman 2014, table 1, column {column})",
        paper="arXiv:1409.1556",
        published=Published(
            normalised if batch_norm else plain, f"torchvision, {port}.IMAGENET1K_V1: one crop of 224 pixels"
        ),
    )


VARIANTS = {f"vgg{depth}": _variant(depth, batch_norm=False) for depth in COLUMNS} | {
    f"vgg{depth}_bn": _variant(depth, batch_norm=True) for depth in COLUMNS
}
