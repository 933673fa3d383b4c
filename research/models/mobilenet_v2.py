"""MobileNetV2: inverted residuals with linear bottlenecks.

Mark Sandler, Andrew Howard, Menglong Zhu, Andrey Zhmoginov, Liang-Chieh Chen: "MobileNetV2: Inverted Residuals and
Linear Bottlenecks", 2018, arXiv:1801.04381, table 2. The last convolution of 1280 channels is widened by multipliers
above 1 and not narrowed by those below (section 4). `bottleneck` and `shortcut` are the ablations of figure 6;
`expansion` is that of every row but the first (the paper found 5 to 10 about equal: section 3.4).

As in the release (tensorflow/models, slim): ReLU6, padding "SAME", norm epsilon 1e-3, dropout 0.2, every kernel from a
truncated normal with standard deviation 0.09. Deviation: batch norm keeps 0.99 of its running values (the release:
0.997). torchvision's `mobilenet_v2` is `padding="symmetric", norm_epsilon=1e-5`.
"""

import dataclasses
import functools
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from research.models import Published, Variant
from research.nn.blocks import check_stochastic_depth
from research.nn.conv import Dtype
from research.nn.inverted_residual import (
    SLIM_INIT,
    STEMS,
    TOTAL_STRIDE,
    GoogleBatchNorm,
    InvertedResidual,
    InvertedStage,
    ReleasePadding,
    SlimConv,
    for_stem,
    padded,
)
from research.nn.layers import Activation, Builder, ConvNormAct, fixed
from research.nn.trunk import SmallImageStem, Trunk, scale, scale_width
from research.values import Count, Fraction, Natural, Positive

INPUT_SHAPE = (224, 224, 3)

# Sandler et al. 2018, table 2: n blocks of c channels, stride s, expansion t.
STEM_WIDTH = 32
STAGES = (
    InvertedStage(1, 16, 1, expansion=1),
    InvertedStage(2, 24, 2),
    InvertedStage(3, 32, 2),
    InvertedStage(4, 64, 2),
    InvertedStage(3, 96, 1),
    InvertedStage(3, 160, 2),
    InvertedStage(1, 320, 1),
)
FINAL_WIDTH = 1280


def mobilenet_v2(
    *,
    alpha: Positive,
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    stem: SmallImageStem = "imagenet",
    expansion: Positive = 6,
    bottleneck: Literal["linear", "relu"] = "linear",
    shortcut: bool = True,
    dropout: Fraction = 0.2,
    stochastic_depth: Fraction = 0.0,
    padding: ReleasePadding = "same",
    norm_epsilon: Positive = 1e-3,
    conv: Builder = SlimConv,
    norm: Builder = GoogleBatchNorm,
    act: Activation = nn.relu6,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """The network of table 2 with `alpha`, the width multiplier of its name; the options multiply further."""
    check_stochastic_depth(stochastic_depth, "B" if shortcut else "none")
    first, *others = STAGES
    table = (first, *(dataclasses.replace(row, expansion=expansion) for row in others))
    stem_width, rows = scale_width(STEM_WIDTH, alpha), scale(table, width=alpha)
    stages = scale(rows, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor)
    return Trunk(
        stem_width=scale_width(stem_width, width_multiplier, channel_divisor),
        stages=for_stem(stages, stem),
        num_classes=num_classes,
        block=fixed(InvertedResidual, bottleneck=bottleneck, shortcut=shortcut),
        stem=STEMS[stem],
        final=fixed(
            ConvNormAct, width=scale_width(FINAL_WIDTH, max(1.0, alpha * width_multiplier), channel_divisor), kernel=1
        ),
        dropout=dropout,
        head_init=SLIM_INIT,
        conv=padded(conv, padding),
        norm=fixed(norm, epsilon=norm_epsilon),
        act=act,
        minimum=TOTAL_STRIDE[stem],
        stochastic_depth=stochastic_depth,
        dtype=dtype,
    )


# ImageNet top-1 where the paper prints it.
TOP1 = {1.4: 74.7, 1.3: None, 1.0: 72.0, 0.75: None, 0.5: None, 0.35: None}

VARIANTS = {
    "mobilenet_v2" if alpha == 1 else f"mobilenet_v2_x{alpha:g}": Variant(
        build=functools.partial(mobilenet_v2, alpha=alpha),
        input_shape=INPUT_SHAPE,
        num_classes=1000,
        minimum=TOTAL_STRIDE["imagenet"],
        summary=f"MobileNetV2, width {alpha:g}: inverted residuals, linear bottlenecks (Sandler et al. 2018, table 2)",
        paper="arXiv:1801.04381",
        published=Published(top1, "Sandler et al. 2018, table 4, 224 px") if top1 else None,
    )
    for alpha, top1 in TOP1.items()
}
