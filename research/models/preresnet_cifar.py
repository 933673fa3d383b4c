"""Pre-activation residual networks for CIFAR-10, of any depth 6n + 2.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun: "Identity Mappings in Deep Residual Networks", 2016,
arXiv:1603.05027, figure 4 (e) and section 5, on the CIFAR table of arXiv:1512.03385 (section 4.2): basic blocks of 16,
32 and 64 channels and parameter-free shortcuts (option A). The activation of the first block of a stage comes before
its two paths part, as in fb.resnet.torch, and another follows the last block. Parameters and multiply-adds are those of
`resnet{depth}`.

Of these depths the paper has 110 (table 2); its deeper networks (164 and 1001 layers) are of bottlenecks,
whence there is no `preresnet164`.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp

from research.models import Published, Variant
from research.models.resnet_cifar import INPUT_SHAPE, TOTAL_STRIDE, check_depth
from research.nn.blocks import Shortcut, check_stochastic_depth
from research.nn.conv import Conv, Dtype
from research.nn.layers import Activation, BatchNorm, Builder, fixed
from research.nn.preactivation import ConvStem, NormAct, PreActivationBlock, PreActivationStage
from research.nn.trunk import Trunk, scale, scale_width
from research.values import Count, Fraction, Natural, Positive

DEPTHS = (8, 20, 32, 44, 56, 110)
# He et al. 2016, table 2, "full pre-activation" (6.37% error, median of 5 runs).
TOP1 = {110: Published(93.63, "He et al. 2016, table 2: CIFAR-10, flips and translations, median of 5 runs")}


def preactivation_cifar_resnet(
    *,
    depth: int,
    num_classes: Natural = 10,
    width: Count = 16,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    shortcut: Shortcut = "A",
    stochastic_depth: Fraction = 0.0,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """`depth` = 6n + 2 weighted layers: n pre-activation blocks at each of three resolutions.

    The multipliers scale every row, stem included; widths are then rounded to a multiple of `channel_divisor`.
    """
    check_stochastic_depth(stochastic_depth, shortcut)
    blocks = (depth - 2) // 6
    stages = [PreActivationStage(blocks, width << doubling, stride) for doubling, stride in enumerate((1, 2, 2))]
    return Trunk(
        stem_width=scale_width(width, width_multiplier, channel_divisor),
        stages=scale(stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        block=fixed(PreActivationBlock, shortcut=shortcut),
        stem=ConvStem,
        final=NormAct,
        conv=conv,
        norm=norm,
        act=act,
        minimum=TOTAL_STRIDE,
        stochastic_depth=stochastic_depth,
        dtype=dtype,
    )


def preresnet(depth: int) -> Variant:
    """`preresnet{depth}`. Raises `UserError` as `research.models.resnet_cifar.check_depth` does."""
    check_depth("preresnet", depth)
    return Variant(
        build=functools.partial(preactivation_cifar_resnet, depth=depth),
        input_shape=INPUT_SHAPE,
        num_classes=10,
        minimum=TOTAL_STRIDE,
        summary=f"pre-activation residual network of {depth} layers for small images (He et al. 2016)",
        paper="arXiv:1603.05027",
        published=TOP1.get(depth),
    )


PATTERNS = {"preresnet{depth}": preresnet}
VARIANTS = {f"preresnet{depth}": preresnet(depth) for depth in DEPTHS}
