"""EfficientNetV2: fused inverted residuals where images are large, the others where channels are many.

Mingxing Tan, Quoc V. Le: "EfficientNetV2: Smaller Models and Faster Training", 2021, arXiv:2104.00298, table 4 (S), and
the released code (google/automl), which has the rows of M and L. The resolutions are those of evaluation (table 7);
progressive learning is not part of the network.

As in the release: padding "SAME", norm epsilon 1e-3, batch norm keeps 0.9, stochastic depth 0.2, EfficientNet's
initial values. torchvision's `efficientnet_v2_s` is `padding="symmetric"`, with the same epsilon.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from research.models import Published, Variant
from research.nn.conv import HE_FAN_OUT, Conv, Dtype
from research.nn.inverted_residual import (
    DEPTHWISE_INIT,
    HEAD_INIT,
    STEMS,
    TOTAL_STRIDE,
    Excite,
    InvertedResidual,
    InvertedStage,
    ReleasePadding,
    for_stem,
    padded,
)
from research.nn.layers import Activation, BatchNorm, Builder, ConvNormAct, fixed
from research.nn.trunk import SmallImageStem, Trunk, scale, scale_width
from research.values import Count, Fraction, Natural, Positive


@dataclass(frozen=True, kw_only=True)
class Row(InvertedStage):
    """A row of table 4: Fused-MBConv without, or MBConv with squeeze-and-excitation."""

    fused: bool = False


class Table(NamedTuple):
    """A network: its rows (the stem is as wide as the first), resolution in pixels, dropout, top-1 of table 7."""

    rows: tuple[Row, ...]
    resolution: int
    dropout: float
    top1: float


# Tan and Le 2021, table 4, and the released code's `v2_s_block`, `v2_m_block`, `v2_l_block`.
TABLES = {
    "s": Table(
        (
            Row(2, 24, 1, expansion=1, fused=True),
            Row(4, 48, 2, expansion=4, fused=True),
            Row(4, 64, 2, expansion=4, fused=True),
            Row(6, 128, 2, expansion=4),
            Row(9, 160, 1),
            Row(15, 256, 2),
        ),
        resolution=384,
        dropout=0.2,
        top1=83.9,
    ),
    "m": Table(
        (
            Row(3, 24, 1, expansion=1, fused=True),
            Row(5, 48, 2, expansion=4, fused=True),
            Row(5, 80, 2, expansion=4, fused=True),
            Row(7, 160, 2, expansion=4),
            Row(14, 176, 1),
            Row(18, 304, 2),
            Row(5, 512, 1),
        ),
        resolution=480,
        dropout=0.3,
        top1=85.1,
    ),
    "l": Table(
        (
            Row(4, 32, 1, expansion=1, fused=True),
            Row(7, 64, 2, expansion=4, fused=True),
            Row(7, 96, 2, expansion=4, fused=True),
            Row(10, 192, 2, expansion=4),
            Row(19, 224, 1),
            Row(25, 384, 2),
            Row(7, 640, 1),
        ),
        resolution=480,
        dropout=0.4,
        top1=85.7,
    ),
}
FINAL_WIDTH = 1280


def block(*, fused: bool, excite: float, act: Activation, **row: Any) -> InvertedResidual:
    """The block of a row: `excite` of the input channels where it is not fused."""
    squeeze = Excite(excite, act=act, kernel_init=HE_FAN_OUT) if excite and not fused else None
    return InvertedResidual(fused=fused, excite=squeeze, depthwise_init=DEPTHWISE_INIT, act=act, **row)


def efficientnet_v2(
    *,
    table: Table,
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    stem: SmallImageStem = "imagenet",
    excite: Fraction = 0.25,
    dropout: Fraction | None = None,
    stochastic_depth: Fraction = 0.2,
    padding: ReleasePadding = "same",
    norm_epsilon: Positive = 1e-3,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.swish,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """The network of one table, scaled by the multipliers; a `dropout` of None is the table's.

    `excite` is how many of a block's input channels it squeezes to; 0 leaves squeeze-and-excitation out.
    """
    stages = scale(table.rows, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor)
    return Trunk(
        stem_width=stages[0].width,
        stages=for_stem(stages, stem),
        num_classes=num_classes,
        block=fixed(block, excite=excite),
        stem=STEMS[stem],
        final=fixed(ConvNormAct, width=scale_width(FINAL_WIDTH, width_multiplier, channel_divisor), kernel=1),
        dropout=table.dropout if dropout is None else dropout,
        head_init=HEAD_INIT,
        conv=padded(conv, padding),
        norm=fixed(norm, epsilon=norm_epsilon),
        act=act,
        minimum=TOTAL_STRIDE[stem],
        stochastic_depth=stochastic_depth,
        drop_first=False,
        dtype=dtype,
    )


VARIANTS = {
    f"efficientnet_v2_{size}": Variant(
        build=functools.partial(efficientnet_v2, table=table),
        input_shape=(table.resolution, table.resolution, 3),
        num_classes=1000,
        minimum=TOTAL_STRIDE["imagenet"],
        summary=f"EfficientNetV2-{size.upper()}: fused and depthwise inverted residuals (Tan and Le 2021, table 4)",
        paper="arXiv:2104.00298",
        published=Published(table.top1, f"Tan and Le 2021, table 7, {table.resolution} px, ImageNet-1k alone"),
    )
    for size, table in TABLES.items()
}
