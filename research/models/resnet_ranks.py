"""The residual network of 18 layers for sequences and for video: the one definition, at other spatial ranks.

Kensho Hara, Hirokatsu Kataoka, Yutaka Satoh: "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?",
2017, arXiv:1711.09577, table 1: `resnet18_3d` sees 16 frames of 112 pixels (the 400 classes of Kinetics); its first
convolution strides in space only, the max pool and the later stages in time too; shortcuts are of option A.

`resnet18_1d` is the table of He et al. 2015 (arXiv:1512.03385) with every kernel along one axis; no paper of its own.
"""

import flax.linen as nn
import jax.numpy as jnp

from research.models import Variant
from research.models.resnet import RESIDUAL, TOTAL_STRIDE, resnet
from research.nn.blocks import BasicBlock, Shortcut
from research.nn.conv import Conv, Dtype
from research.nn.layers import Activation, BatchNorm, Builder, fixed
from research.nn.trunk import Stem, Trunk
from research.values import Count, Fraction, Natural, Positive

VIDEO_MINIMUM = 16  # the total stride in time, half of that in space


def sequence_resnet(
    *,
    num_classes: Natural = 10,
    width: Count = 64,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    shortcut: Shortcut = "B",
    zero_init_residual: bool = False,
    stochastic_depth: Fraction = 0.0,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """`resnet18` for sequences, "b t c"; see `research.models.resnet.resnet`."""
    return resnet(
        block=BasicBlock,
        blocks=RESIDUAL["resnet18"].blocks,
        num_classes=num_classes,
        width=width,
        width_multiplier=width_multiplier,
        depth_multiplier=depth_multiplier,
        channel_divisor=channel_divisor,
        shortcut=shortcut,
        zero_init_residual=zero_init_residual,
        stochastic_depth=stochastic_depth,
        conv=conv,
        norm=norm,
        act=act,
        dtype=dtype,
    )


def video_resnet(
    *,
    num_classes: Natural = 400,
    width: Count = 64,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    shortcut: Shortcut = "A",
    zero_init_residual: bool = False,
    stochastic_depth: Fraction = 0.0,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """`resnet18` for video, "b t h w c"; see `research.models.resnet.resnet`."""
    network = sequence_resnet(
        num_classes=num_classes,
        width=width,
        width_multiplier=width_multiplier,
        depth_multiplier=depth_multiplier,
        channel_divisor=channel_divisor,
        shortcut=shortcut,
        zero_init_residual=zero_init_residual,
        stochastic_depth=stochastic_depth,
        conv=conv,
        norm=norm,
        act=act,
        dtype=dtype,
    )
    return network.clone(stem=fixed(Stem, kernel=7, stride=(1, 2, 2), pool=True), minimum=VIDEO_MINIMUM)


VARIANTS = {
    "resnet18_1d": Variant(
        build=sequence_resnet,
        input_shape=(1024, 1),
        num_classes=10,
        minimum=TOTAL_STRIDE["imagenet"],
        summary="residual network of 18 layers for sequences, 2-2-2-2 blocks (He et al. 2015, table 1, in 1-D)",
        paper="arXiv:1512.03385",
    ),
    "resnet18_3d": Variant(
        build=video_resnet,
        input_shape=(16, 112, 112, 3),
        num_classes=400,
        minimum=VIDEO_MINIMUM,
        summary="residual network of 18 layers for video, 2-2-2-2 blocks (Hara et al. 2017, table 1)",
        paper="arXiv:1711.09577",
    ),
}
