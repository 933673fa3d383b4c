"""Plain, residual, wide and grouped residual networks for ImageNet.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun: "Deep Residual Learning for Image Recognition", 2015,
arXiv:1512.03385, table 1 and section 3.3 (plain twins), shortcut options of section 4.1 (table 3 compares A, B and C).

Of the same table, with other 3x3 convolutions in the bottleneck:

Saining Xie, Ross Girshick, Piotr Dollar, Zhuowen Tu, Kaiming He: "Aggregated Residual Transformations for Deep Neural
Networks", 2016, arXiv:1611.05431, table 1 (figure 3 (c): grouped convolutions).
Sergey Zagoruyko, Nikos Komodakis: "Wide Residual Networks", 2016, arXiv:1605.07146, table 8 (WRN-50-2-bottleneck).

`groups` and `base_width` set these (`resnet50` with 32 and 4 is `resnext50_32x4d`): the middle of a bottleneck has
groups x base_width channels where the stage's `width` is 64, and its output stays as wide.

Deviations: `resnet50/101/152` stride on the 3x3 convolution, as fb.resnet.torch and torchvision do ("v1.5"); the
paper's release strides on the first 1x1, which is `resnet50_v1` and so on. `plain50` is not in the paper: it is
resnet50 without its shortcuts. The plain networks have batch normalisation, as in section 3.4. `resnext101_32x8d` and
`wide_resnet101_2` are torchvision's, not the papers'. `zero_init_residual` is that of Goyal et al. 2017
(arXiv:1706.02677, section 5.1).

Accuracies are torchvision's for its first weights, of this very form, but trained in different settings (ResNets for 90
epochs, ResNeXts for 100); those of the plain networks are the paper's.
"""

import functools
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from research.models import Published, Variant
from research.nn.blocks import BasicBlock, Bottleneck, Shortcut, check_stochastic_depth
from research.nn.conv import Conv, Dtype
from research.nn.layers import Activation, BatchNorm, Builder, fixed
from research.nn.trunk import SmallImageStem, Stage, Stem, Trunk, scale, scale_width
from research.values import Count, Fraction, Natural, Positive

StemName = SmallImageStem | Literal["video"]  # video: its first stride is of space only (rank 3)
STEMS: dict[str, Builder] = {
    "imagenet": functools.partial(Stem, kernel=7, stride=2, pool=True),
    "video": functools.partial(Stem, kernel=7, stride=(1, 2, 2), pool=True),
    "cifar": Stem,
}
BOTTLENECK_V1 = functools.partial(Bottleneck, stride_on="1x1")
INPUT_SHAPE = (224, 224, 3)
TOTAL_STRIDE = {"imagenet": 32, "video": 16, "cifar": 8}  # video: in time, half of that in space


def resnet(
    *,
    block: Builder,
    blocks: tuple[int, ...],
    num_classes: Natural = 1000,
    width: Count = 64,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    stem: StemName = "imagenet",
    shortcut: Shortcut = "B",
    groups: Count = 1,
    base_width: Count = 64,
    zero_init_residual: bool = False,
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
    # A basic block has no such middle: what groups would make of it is a wide one (Xie et al. 2016, section 3.3).
    inner = {"groups": groups, "base_width": base_width} if (groups, base_width) != (1, 64) else {}
    strides = (1, 2, 2, 2)
    rows = enumerate(zip(blocks, strides, strict=True))
    stages = [Stage(count, width << doubling, stride) for doubling, (count, stride) in rows]
    return Trunk(
        stem_width=scale_width(width, width_multiplier, channel_divisor),
        stages=scale(stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        block=fixed(block, shortcut=shortcut, zero_init=zero_init_residual, **inner),
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
    "resnet50_v1": Row(BOTTLENECK_V1, (3, 4, 6, 3), ", stride on the 1x1 (as released)"),
    "resnet101_v1": Row(BOTTLENECK_V1, (3, 4, 23, 3), ", stride on the 1x1 (as released)"),
    "resnet152_v1": Row(BOTTLENECK_V1, (3, 8, 36, 3), ", stride on the 1x1 (as released)"),
}
PLAIN = {
    "plain18": RESIDUAL["resnet18"],
    "plain34": RESIDUAL["resnet34"],
    "plain50": RESIDUAL["resnet50"],
}
HE = ("He et al. 2015, table 1", "arXiv:1512.03385")
XIE = ("Xie et al. 2016, table 1", "arXiv:1611.05431")
ZAGORUYKO = ("Zagoruyko and Komodakis 2016, table 8", "arXiv:1605.07146")
AFTER_XIE = ("torchvision, after Xie et al. 2016", "torchvision, after arXiv:1611.05431")
AFTER_ZAGORUYKO = ("torchvision, after Zagoruyko and Komodakis 2016", "torchvision, after arXiv:1605.07146")
# Groups and base width of the 3x3 convolutions, and their source.
MIDDLE = {
    "resnext50_32x4d": (RESIDUAL["resnet50"], 32, 4, XIE),
    "resnext101_32x8d": (RESIDUAL["resnet101"], 32, 8, AFTER_XIE),
    "wide_resnet50_2": (RESIDUAL["resnet50"], 1, 128, ZAGORUYKO),
    "wide_resnet101_2": (RESIDUAL["resnet101"], 1, 128, AFTER_ZAGORUYKO),
}
TORCHVISION = "torchvision's documentation, IMAGENET1K_V1: one crop of 224 pixels"
TOP1 = {
    "resnet18": 69.758,
    "resnet34": 73.314,
    "resnet50": 76.130,
    "resnet101": 77.374,
    "resnet152": 78.312,
    "resnext50_32x4d": 77.618,
    "resnext101_32x8d": 79.312,
    "wide_resnet50_2": 78.468,
    "wide_resnet101_2": 78.848,
}
# Of table 2, errors 27.94 and 28.54%.
PUBLISHED = {name: Published(top1, TORCHVISION) for name, top1 in TOP1.items()} | {
    name: Published(top1, "He et al. 2015, table 2: mean of ten crops")
    for name, top1 in (("plain18", 72.06), ("plain34", 71.46))
}
# What a plain network, and what basic blocks, leave nothing to set of.
NO_RESIDUAL: dict[str, Any] = {"shortcut": "none", "stochastic_depth": 0.0, "zero_init_residual": False}
NO_MIDDLE: dict[str, Any] = {"groups": 1, "base_width": 64}


def _variant(name: str, kind: str, row: Row, source: tuple[str, str] = HE, **fixed: Any) -> Variant:
    middle = NO_MIDDLE if row.block is BasicBlock else {}
    return Variant(
        build=functools.partial(resnet, block=row.block, blocks=row.blocks, **middle | fixed),
        input_shape=INPUT_SHAPE,
        num_classes=1000,
        minimum=TOTAL_STRIDE["imagenet"],
        summary=f"{kind} network, {'-'.join(map(str, row.blocks))} blocks{row.note} ({source[0]})",
        paper=source[1],
        published=PUBLISHED.get(name),
    )


def _middle(name: str, row: Row, groups: int, base_width: int, source: tuple[str, str]) -> Variant:
    kind = f"residual ({groups} groups, base width {base_width})"
    return _variant(name, kind, row, source, groups=groups, base_width=base_width)


VARIANTS = {
    **{name: _variant(name, "residual", row) for name, row in RESIDUAL.items()},
    **{name: _middle(name, *row) for name, row in MIDDLE.items()},
    **{name: _variant(name, "plain", row, **NO_RESIDUAL, **NO_MIDDLE) for name, row in PLAIN.items()},
}
