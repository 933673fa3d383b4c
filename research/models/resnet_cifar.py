"""Plain and residual networks for CIFAR-10, of any depth 6n + 2.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun: "Deep Residual Learning for Image Recognition", 2015,
arXiv:1512.03385, section 4.2: a 3x3 convolution, then 2n layers at each of 32, 16 and 8 pixels with 16, 32 and 64
channels, global average pooling and a 10-way dense layer; parameter-free shortcuts (option A). Plain and residual
networks of a depth then have the same parameters. Depths 8 and 14 are not in the paper.

The names `plain50`, `resnet50` and `resnet152` are those of the ImageNet networks, though 50 and 152 are 6n + 2. Other
names of such a depth are refused: in the literature they are bottleneck networks (152 and 200 layers for ImageNet, 164
for CIFAR-10), and basic blocks would make others of them.
"""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from research.errors import UserError
from research.models import Published, Variant
from research.nn.blocks import BasicBlock, Bottleneck, Shortcut, check_stochastic_depth
from research.nn.conv import Conv, Dtype
from research.nn.layers import Activation, BatchNorm, Builder, NoNorm, fixed
from research.nn.trunk import Stage, Trunk, scale, scale_width
from research.values import Count, Fraction, Natural, Positive

INPUT_SHAPE = (32, 32, 3)
TOTAL_STRIDE = 4

# He et al. 2015, table 6 and section 4.2 (20 to 1202); 8 and 14 for quick studies.
RESIDUAL_DEPTHS = (8, 14, 20, 32, 44, 56, 110, 1202)
PLAIN_DEPTHS = (8, 14, 20, 32, 44, 56, 110)
BOTTLENECK_DEPTHS = (50, 152, 164, 200)  # 6n + 2, but of other networks (He et al. 2015 and 2016)
# He et al. 2015, table 6 (errors 8.75, 7.51, 7.17, 6.97, 6.43 and 7.93%).
TOP1 = {20: 91.25, 32: 92.49, 44: 92.83, 56: 93.03, 110: 93.57, 1202: 92.07}
SETTING = "He et al. 2015, table 6: CIFAR-10, flips and translations"
TITLES = {"plain": "plain network", "resnet": "residual network"}


def cifar_resnet(
    *,
    depth: int,
    num_classes: Natural = 10,
    width: Count = 16,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    shortcut: Shortcut = "A",
    bottleneck_ratio: Natural = 0,
    stochastic_depth: Fraction = 0.0,
    batch_norm: bool = True,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """The network of section 4.2 with `depth` = 6n + 2 weighted layers: n blocks at each of three resolutions.

    The multipliers scale every row, stem included; widths are then rounded to a multiple of `channel_divisor`. Without
    `batch_norm` there is no `norm`, and convolutions have a bias. With a `bottleneck_ratio` r above 0 each block is
    1x1, 3x3, 1x1 with the same 3x3 width and an output r times as wide (figure 5 right: 4), hence 3n layers for 2n.
    """
    check_stochastic_depth(stochastic_depth, shortcut)
    blocks = (depth - 2) // 6
    stages = (Stage(blocks, width), Stage(blocks, 2 * width, stride=2), Stage(blocks, 4 * width, stride=2))
    return Trunk(
        stem_width=scale_width(width, width_multiplier, channel_divisor),
        stages=scale(stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        block=fixed(Bottleneck, shortcut=shortcut, expansion=bottleneck_ratio)
        if bottleneck_ratio
        else fixed(BasicBlock, shortcut=shortcut),
        conv=conv if batch_norm else fixed(conv, use_bias=True),
        norm=norm if batch_norm else NoNorm,
        act=act,
        minimum=TOTAL_STRIDE,
        stochastic_depth=stochastic_depth,
        dtype=dtype,
    )


def check_depth(family: str, depth: int) -> None:
    """Raise `UserError` where `depth` is not 6n + 2, or a bottleneck network's; the message names the nearest."""
    if depth >= 8 and depth % 6 == 2 and depth not in BOTTLENECK_DEPTHS:
        return
    near = sorted(range(8, depth + 20, 6), key=lambda valid: abs(valid - depth))
    close = [f"{family}{valid}" for valid in near if valid not in BOTTLENECK_DEPTHS][:2]
    why = "the depth must be 6n + 2, 8 at least"
    if depth in BOTTLENECK_DEPTHS:
        why = f"in the literature a network of {depth} layers has bottlenecks, and this family has none"
    raise UserError(f"unknown model '{family}{depth}': {why}; nearest: {', '.join(close)}")


def _variant(family: str, depth: int, **fixed: Any) -> Variant:
    check_depth(family, depth)
    return Variant(
        build=functools.partial(cifar_resnet, depth=depth, **fixed),
        input_shape=INPUT_SHAPE,
        num_classes=10,
        minimum=TOTAL_STRIDE,
        summary=f"{TITLES[family]} of {depth} layers for small images (He et al. 2015, section 4.2)",
        paper="arXiv:1512.03385",
        published=Published(TOP1[depth], SETTING) if family == "resnet" and depth in TOP1 else None,
    )


def residual(depth: int) -> Variant:
    """`resnet{depth}`. Raises `UserError` as `check_depth` does."""
    return _variant("resnet", depth)


def plain(depth: int) -> Variant:
    """`plain{depth}`: no shortcuts. Raises `UserError` as `check_depth` does."""
    return _variant("plain", depth, shortcut="none", stochastic_depth=0.0)


PATTERNS = {"resnet{depth}": residual, "plain{depth}": plain}
VARIANTS = {f"resnet{depth}": residual(depth) for depth in RESIDUAL_DEPTHS} | {
    f"plain{depth}": plain(depth) for depth in PLAIN_DEPTHS
}
