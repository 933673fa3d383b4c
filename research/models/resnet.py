"""Plain and residual networks for ImageNet.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun: "Deep Residual Learning for Image Recognition", 2015,
arXiv:1512.03385, table 1 and section 3.3 (plain twins), shortcut options of section 4.1 (table 3 compares A, B and C).

Deviations: `resnet50/101/152` stride on the 3x3 convolution, as fb.resnet.torch and torchvision do ("v1.5"); the
paper's release strides on the first 1x1, which is `resnet50_v1` and so on. `plain50` is not in the paper: it is
resnet50 without its shortcuts. The plain networks have batch normalisation, as in section 3.4.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from research.models import Variant
from research.nn.blocks import BasicBlock, Bottleneck, Shortcut, check_stochastic_depth
from research.nn.conv import Conv, Dtype
from research.nn.layers import Activation, BatchNorm, Builder, fixed
from research.nn.trunk import SmallImageStem, Stage, Stem, Trunk, scale, scale_width
from research.values import Count, Fraction, Natural, Positive

STEMS: dict[str, Builder] = {"imagenet": functools.partial(Stem, kernel=7, stride=2, pool=True), "cifar": Stem}
BOTTLENECK_V1 = functools.partial(Bottleneck, stride_on="1x1")
INPUT_SHAPE = (224, 224, 3)
TOTAL_STRIDE = {"imagenet": 32, "cifar": 8}


def resnet(
    *,
    block: Builder,
    blocks: tuple[int, ...],
    num_classes: Natural = 1000,
    width: Count = 64,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    stem: SmallImageStem = "imagenet",
    shortcut: Shortcut = "B",
    stochastic_depth: Fraction = 0.0,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """The network of one column of table 1: four stages whose `width` doubles each time and whose resolution halves.

    The multipliers scale every row, stem included; widths are then rounded to a multiple of `channel_divisor`.
    """
    check_stochastic_depth(stochastic_depth, shortcut)
    strides = (1, 2, 2, 2)
    rows = enumerate(zip(blocks, strides, strict=True))
    stages = [Stage(count, width << doubling, stride) for doubling, (count, stride) in rows]
    return Trunk(
        stem_width=scale_width(width, width_multiplier, channel_divisor),
        stages=scale(stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        block=fixed(block, shortcut=shortcut),
        stem=STEMS[stem],
        conv=conv,
        norm=norm,
        act=act,
        minimum=TOTAL_STRIDE[stem],
        stochastic_depth=stochastic_depth,
        dtype=dtype,
    )


class Row(NamedTuple):
    """A column of table 1: the block and how many of it each of conv2_x to conv5_x has."""

    block: Builder
    blocks: tuple[int, ...]
    note: str = ""


# He et al. 2015, table 1.
RESIDUAL = {
    "resnet18": Row(BasicBlock, (2, 2, 2, 2)),
    "resnet34": Row(BasicBlock, (3, 4, 6, 3)),
    "resnet50": Row(Bottleneck, (3, 4, 6, 3), ", stride on the 3x3 (v1.5)"),
    "resnet101": Row(Bottleneck, (3, 4, 23, 3), ", stride on the 3x3 (v1.5)"),
    "resnet152": Row(Bottleneck, (3, 8, 36, 3), ", stride on the 3x3 (v1.5)"),
    "resnet50_v1": Row(BOTTLENECK_V1, (3, 4, 6, 3), ", stride on the 1x1 (as printed)"),
    "resnet101_v1": Row(BOTTLENECK_V1, (3, 4, 23, 3), ", stride on the 1x1 (as printed)"),
    "resnet152_v1": Row(BOTTLENECK_V1, (3, 8, 36, 3), ", stride on the 1x1 (as printed)"),
}
PLAIN = {
    "plain18": RESIDUAL["resnet18"],
    "plain34": RESIDUAL["resnet34"],
    "plain50": RESIDUAL["resnet50"],
}


def _variant(row: Row, kind: str, **fixed: Any) -> Variant:
    return Variant(
        build=functools.partial(resnet, block=row.block, blocks=row.blocks, **fixed),
        input_shape=INPUT_SHAPE,
        num_classes=1000,
        minimum=TOTAL_STRIDE["imagenet"],
        summary=f"{kind} network, {'-'.join(map(str, row.blocks))} blocks{row.note} (He et al. 2015, table 1)",
        paper="arXiv:1512.03385",
    )


VARIANTS = {name: _variant(row, "residual") for name, row in RESIDUAL.items()} | {
    name: _variant(row, "plain", shortcut="none", stochastic_depth=0.0) for name, row in PLAIN.items()
}
