"""Pre-activation residual networks for ImageNet.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun: "Identity Mappings in Deep Residual Networks", 2016,
arXiv:1603.05027, figure 4 (e) and section 5, on the table of arXiv:1512.03385.

Deviations: the 3x3 convolution strides and the first activation comes after the max pool, as in timm's `resnetv2_50`;
the paper's release strides on the first 1x1 and activates before the pool. The paper's networks for ImageNet have 152
and 200 layers; those of 50 and 101 are timm's.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp

from research.models import Variant
from research.models.resnet import INPUT_SHAPE, TOTAL_STRIDE
from research.nn.blocks import Shortcut, check_stochastic_depth
from research.nn.conv import Conv, Dtype
from research.nn.layers import Activation, BatchNorm, Builder, fixed
from research.nn.preactivation import ConvStem, NormAct, PreActivationBottleneck, PreActivationStage
from research.nn.trunk import SmallImageStem, Trunk, scale, scale_width
from research.values import Count, Fraction, Natural, Positive

STEMS: dict[str, Builder] = {"imagenet": functools.partial(ConvStem, kernel=7, stride=2, pool=True), "cifar": ConvStem}


def resnet_v2(
    *,
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
    """Four stages of pre-activation bottlenecks whose `width` doubles each time and whose resolution halves.

    The multipliers scale every row, stem included; widths are then rounded to a multiple of `channel_divisor`.
    """
    check_stochastic_depth(stochastic_depth, shortcut)
    rows = enumerate(zip(blocks, (1, 2, 2, 2), strict=True))
    stages = [PreActivationStage(count, width << doubling, stride) for doubling, (count, stride) in rows]
    return Trunk(
        stem_width=scale_width(width, width_multiplier, channel_divisor),
        stages=scale(stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        block=fixed(PreActivationBottleneck, shortcut=shortcut),
        stem=STEMS[stem],
        final=NormAct,
        conv=conv,
        norm=norm,
        act=act,
        minimum=TOTAL_STRIDE[stem],
        stochastic_depth=stochastic_depth,
        dtype=dtype,
    )


# He et al. 2015, table 1.
BLOCKS = {"resnetv2_50": (3, 4, 6, 3), "resnetv2_101": (3, 4, 23, 3), "resnetv2_152": (3, 8, 36, 3)}


def _variant(blocks: tuple[int, ...]) -> Variant:
    return Variant(
        build=functools.partial(resnet_v2, blocks=blocks),
        input_shape=INPUT_SHAPE,
        num_classes=1000,
        minimum=TOTAL_STRIDE["imagenet"],
        summary=f"pre-activation residual network, {'-'.join(map(str, blocks))} bottlenecks (He et al. 2016)",
        paper="arXiv:1603.05027",
    )


VARIANTS = {name: _variant(blocks) for name, blocks in BLOCKS.items()}
