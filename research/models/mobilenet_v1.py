"""MobileNet: a stack of depthwise-separable convolutions, and a width multiplier.

Andrew G. Howard, Menglong Zhu, Bo Chen, Dmitry Kalenichenko, Weijun Wang, Tobias Weyand, Marco Andreetto, Hartwig Adam:
"MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017, arXiv:1704.04861, table 1
(the last row's stride is printed as 2 and is 1, as its input and output sizes say), table 6 (width multipliers) and
table 7 (resolutions, which need no variant: a smaller image costs less). `separable=False` has ordinary 3x3
convolutions in the place of each pair (table 4), `shallow` leaves out the five layers of 14x14x512 (table 5).

As in the release (tensorflow/models, slim): ReLU6 where the text says ReLU (`act`), padding "SAME", norm epsilon 1e-3,
dropout 0.001, every kernel from a truncated normal with standard deviation 0.09. Deviation: batch norm keeps 0.99 of
its running values as Google's later networks do; the release's 0.9997 is for runs of millions of steps. timm's
`mobilenetv1_100` is `padding="symmetric", norm_epsilon=1e-5`.
"""

import dataclasses
import functools

import flax.linen as nn
import jax.numpy as jnp

from research.models import Published, Variant
from research.nn.conv import Dtype
from research.nn.inverted_residual import (
    SLIM_INIT,
    STEMS,
    TOTAL_STRIDE,
    DepthwiseSeparable,
    GoogleBatchNorm,
    ReleasePadding,
    SlimConv,
    for_stem,
    padded,
)
from research.nn.layers import Activation, Builder, ConvNormAct, fixed
from research.nn.trunk import SmallImageStem, Stage, Trunk, scale, scale_width
from research.values import Count, Fraction, Natural, Positive

INPUT_SHAPE = (224, 224, 3)

# Howard et al. 2017, table 1: rows "Conv dw" with the 1x1 "Conv" after each.
STEM_WIDTH = 32
STAGES = (Stage(1, 64), Stage(2, 128, 2), Stage(2, 256, 2), Stage(6, 512, 2), Stage(2, 1024, 2))


def mobilenet_v1(
    *,
    alpha: Positive,
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    stem: SmallImageStem = "imagenet",
    separable: bool = True,
    shallow: bool = False,
    dropout: Fraction = 0.001,
    padding: ReleasePadding = "same",
    norm_epsilon: Positive = 1e-3,
    conv: Builder = SlimConv,
    norm: Builder = GoogleBatchNorm,
    act: Activation = nn.relu6,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """The network of table 1 with `alpha`, the width multiplier of its name; the options multiply further."""
    table = tuple(dataclasses.replace(row, blocks=1) if shallow and row.blocks == 6 else row for row in STAGES)
    stem_width, rows = scale_width(STEM_WIDTH, alpha), scale(table, width=alpha)
    stages = scale(rows, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor)
    return Trunk(
        stem_width=scale_width(stem_width, width_multiplier, channel_divisor),
        stages=for_stem(stages, stem),
        num_classes=num_classes,
        block=DepthwiseSeparable if separable else fixed(ConvNormAct, kernel=3),
        stem=STEMS[stem],
        dropout=dropout,
        head_init=SLIM_INIT,
        conv=padded(conv, padding),
        norm=fixed(norm, epsilon=norm_epsilon),
        act=act,
        minimum=TOTAL_STRIDE[stem],
        dtype=dtype,
    )


# Howard et al. 2017, table 6: ImageNet top-1.
TOP1 = {1.0: 70.6, 0.75: 68.4, 0.5: 63.7, 0.25: 50.6}

VARIANTS = {
    "mobilenet_v1" if alpha == 1 else f"mobilenet_v1_x{alpha:g}": Variant(
        build=functools.partial(mobilenet_v1, alpha=alpha),
        input_shape=INPUT_SHAPE,
        num_classes=1000,
        minimum=TOTAL_STRIDE["imagenet"],
        summary=f"MobileNet, width {alpha:g}: depthwise-separable convolutions (Howard et al. 2017, table 1)",
        paper="arXiv:1704.04861",
        published=Published(top1, "Howard et al. 2017, table 6, 224 px"),
    )
    for alpha, top1 in TOP1.items()
}
