"""AlexNet in three forms.

Alex Krizhevsky, Ilya Sutskever, Geoffrey Hinton: "ImageNet Classification with Deep Convolutional Neural Networks",
NIPS 2012, figure 2 and section 3 (`alexnet`): two towers, one for each graphics card, that see each other in the third
convolution only, hence `groups` of 2 in the second, fourth and fifth; local response normalisation (section 3.3),
overlapping max pools (3.4), dropout on both hidden layers (4.2); weights from N(0, 0.01), biases of 1 in the second,
fourth and fifth convolution and in the hidden layers, else 0 (section 5). `alexnet_single_tower` is it without groups.
Deviation: images have the 227 pixels that the printed 55x55 maps follow from, not the 224 of the text.

Alex Krizhevsky: "One weird trick for parallelizing convolutional neural networks", 2014, arXiv:1404.5997, section 5
(`alexnet_owt`): one tower, fewer filters, no normalisation. It is torchvision's `alexnet`: dropout on what the hidden
layers see, weights uniform within +-1 / sqrt(fan-in). Deviations from that port: biases start at 0, and the last maps
are flattened as they are, where the port resizes them to 6x6, which is the identity at 224 pixels.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.models import Published, Variant
from research.nn.conv import Conv, Dtype, Sizes
from research.nn.hidden import DenseLayer, classify_by_hidden_layers
from research.nn.layers import Activation, Builder, Features, require_resolution
from research.nn.normalisation import local_response_norm
from research.nn.pooling import max_pool
from research.nn.trunk import scale_width
from research.values import Count, Fraction, Natural, Positive

GAUSSIAN = nn.initializers.normal(0.01)
PYTORCH = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


@dataclass(frozen=True)
class ConvRow:
    """A convolution, its activation, and what comes `after` them, in this order; `bias` is what the biases start at."""

    width: int
    kernel: Sizes
    stride: Sizes = 1
    padding: Sizes = 0
    groups: int = 1
    bias: float = 0.0
    after: tuple[Literal["norm", "pool"], ...] = ()


class AlexNet(nn.Module):
    """Rows of convolutions, then two hidden layers, "b *space c" -> float32 logits "b num_classes" (0: `hidden`).

    `response_norm` is any function of the maps. Pools are 3x3 with stride 2; with `ceil_pool` a last window may hang
    over the end (cuda-convnet, Caffe). `width_multiplier` scales every layer, rounded to a multiple of
    `channel_divisor`. Features `stage1` to `stage3` are what the three pools see.
    """

    convs: tuple[ConvRow, ...]
    minimum: int
    num_classes: Natural = 1000
    hidden: Count = 4096
    hidden_bias: float = 0.0
    width_multiplier: Positive = 1.0
    channel_divisor: Count = 8
    dropout: Fraction = 0.5
    dropout_before: tuple[DenseLayer, ...] = ("dense2", "head")
    ceil_pool: bool = False
    kernel_init: Callable[..., Array] = GAUSSIAN
    conv: Builder = Conv
    response_norm: Callable[[Array], Array] = local_response_norm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b outputs"]:
        """Logits, or the last hidden layer."""
        require_resolution(f"this {type(self).__name__}", images.shape[1:-1], self.minimum)
        divisor = math.lcm(self.channel_divisor, *(row.groups for row in self.convs))
        conv = functools.partial(self.conv, use_bias=True, kernel_init=self.kernel_init, dtype=self.dtype)
        x, stage = images, 0
        for number, row in enumerate(self.convs, 1):
            width = scale_width(row.width, self.width_multiplier, divisor)
            arguments = {"padding": row.padding, "groups": row.groups, "name": f"conv{number}"}
            bias_init = nn.initializers.constant(row.bias)
            x = self.act(conv(width, row.kernel, row.stride, bias_init=bias_init, **arguments)(x))
            if "pool" in row.after:
                stage += 1
                x = Features(name=f"stage{stage}")(x)
            for step in row.after:
                x = self.response_norm(x) if step == "norm" else max_pool(x, 3, 2, ceil=self.ceil_pool)
        return classify_by_hidden_layers(
            x,
            self.num_classes,
            width=scale_width(self.hidden, self.width_multiplier, divisor),
            train=train,
            dropout=self.dropout,
            dropout_before=self.dropout_before,
            act=self.act,
            kernel_init=self.kernel_init,
            bias=self.hidden_bias,
            dtype=self.dtype,
        )


def original(towers: int) -> tuple[ConvRow, ...]:
    """Krizhevsky et al. 2012, figure 2, with the second, fourth and fifth convolution cut into `towers`."""
    return (
        ConvRow(96, 11, 4, after=("norm", "pool")),
        ConvRow(256, 5, padding=2, groups=towers, bias=1, after=("norm", "pool")),
        ConvRow(384, 3, padding=1),
        ConvRow(384, 3, padding=1, groups=towers, bias=1),
        ConvRow(256, 3, padding=1, groups=towers, bias=1, after=("pool",)),
    )


# Krizhevsky 2014, section 5.
ONE_WEIRD_TRICK = (
    ConvRow(64, 11, 4, 2, after=("pool",)),
    ConvRow(192, 5, padding=2, after=("pool",)),
    ConvRow(384, 3, padding=1),
    ConvRow(256, 3, padding=1),
    ConvRow(256, 3, padding=1, after=("pool",)),
)


def _variant(
    size: int, minimum: int, summary: str, paper: str, top1: tuple[float, str] | None, **fixed: Any
) -> Variant:
    return Variant(
        build=functools.partial(AlexNet, minimum=minimum, **fixed),
        input_shape=(size, size, 3),
        num_classes=1000,
        minimum=minimum,
        summary=summary,
        paper=paper,
        published=None if top1 is None else Published(*top1),
    )


VARIANTS = {
    "alexnet": _variant(
        227,
        67,
        "AlexNet, two towers, local response normalisation (Krizhevsky et al. 2012, figure 2)",
        "NIPS 2012",
        (59.3, "Krizhevsky et al. 2012, table 2: ILSVRC-2012 validation, one network, mean of ten crops"),
        convs=original(towers=2),
        hidden_bias=1.0,
    ),
    "alexnet_single_tower": _variant(
        227,
        67,
        "AlexNet without groups (after Krizhevsky et al. 2012, figure 2)",
        "NIPS 2012",
        None,
        convs=original(towers=1),
        hidden_bias=1.0,
    ),
    "alexnet_owt": _variant(
        224,
        63,
        "AlexNet of one tower, no normalisation (Krizhevsky 2014, section 5; torchvision's)",
        "arXiv:1404.5997",
        (56.522, "torchvision, AlexNet_Weights.IMAGENET1K_V1: one crop of 224 pixels"),
        convs=ONE_WEIRD_TRICK,
        kernel_init=PYTORCH,
        dropout_before=("dense1", "dense2"),
    ),
}
