"""Wide residual networks for CIFAR-10: few blocks of many channels.

Sergey Zagoruyko, Nikos Komodakis: "Wide Residual Networks", 2016, arXiv:1605.07146, table 1: pre-activation blocks of
two 3x3 convolutions with 16k, 32k and 64k channels behind a convolution of 16; projections without norm where the shape
changes; dropout, where there is any, between the two (0.3 in section 3). `wrn28_10` has 28 layers and k = 10.

The ImageNet form is `wide_resnet50_2`, of the table of `resnet50`.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from research.models import Published, Variant
from research.models.resnet_cifar import INPUT_SHAPE, TOTAL_STRIDE
from research.nn.blocks import Shortcut, check_stochastic_depth
from research.nn.conv import Conv, Dtype
from research.nn.layers import Activation, BatchNorm, Builder, fixed
from research.nn.preactivation import ConvStem, NormAct, PreActivationBlock, PreActivationStage
from research.nn.trunk import Trunk, scale
from research.values import Count, Fraction, Natural, Positive


def wide_resnet(
    *,
    depth: int,
    widening: int,
    num_classes: Natural = 10,
    width: Count = 16,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    dropout: Fraction = 0.0,
    shortcut: Shortcut = "B",
    stochastic_depth: Fraction = 0.0,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """`depth` = 6n + 4 convolutions, the projections with them: n blocks at each of three resolutions.

    `widening` is the paper's k; `width` times it are the channels of the first stage, and `width` those of the stem,
    which the multipliers leave as it is. `dropout` is the rate inside of each block.
    """
    check_stochastic_depth(stochastic_depth, shortcut)
    blocks = (depth - 4) // 6
    rows = [PreActivationStage(blocks, (width * widening) << doubling, s) for doubling, s in enumerate((1, 2, 2))]
    return Trunk(
        stem_width=width,
        stages=scale(rows, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        block=fixed(PreActivationBlock, shortcut=shortcut, dropout=dropout),
        stem=ConvStem,
        final=NormAct,
        conv=conv,
        norm=norm,
        act=act,
        minimum=TOTAL_STRIDE,
        stochastic_depth=stochastic_depth,
        dtype=dtype,
    )


class Row(NamedTuple):
    """Depth and widening of a network, and its top-1 on CIFAR-10 without dropout."""

    depth: int
    widening: int
    top1: float


# Zagoruyko and Komodakis 2016, table 5 (errors 4.53, 4.27 and 4.00%).
ROWS = {"wrn40_4": Row(40, 4, 95.47), "wrn16_8": Row(16, 8, 95.73), "wrn28_10": Row(28, 10, 96.00)}
SETTING = "Zagoruyko and Komodakis 2016, table 5: CIFAR-10, flips and translations, no dropout"


def _variant(row: Row) -> Variant:
    return Variant(
        build=functools.partial(wide_resnet, depth=row.depth, widening=row.widening),
        input_shape=INPUT_SHAPE,
        num_classes=10,
        minimum=TOTAL_STRIDE,
        summary=f"wide residual network, {row.depth} layers {row.widening} times as wide (Zagoruyko 2016, table 1)",
        paper="arXiv:1605.07146",
        published=Published(row.top1, SETTING),
    )


VARIANTS = {name: _variant(row) for name, row in ROWS.items()}
