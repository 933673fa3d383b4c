"""Inception-v4: uniform inception modules after a stem of them.

Christian Szegedy, Sergey Ioffe, Vincent Vanhoucke, Alex Alemi: "Inception-v4, Inception-ResNet and the Impact of
Residual Connections on Learning", 2016, arXiv:1602.07261, figures 3 (stem), 4 to 6 (modules A, B, C), 7 and 8
(reductions), 9 (the network), table 1 (k, l, m, n of reduction A); dropout of 20% (it keeps 80%).

The paper says nothing of initial weights and batch norm: He's by fan-in and epsilon 1e-3 are those of the authors'
release (github.com/tensorflow/models, slim, inception_v4.py). Deviations: 1 x n and n x 1 come in the release's order,
which figures 3, 5 and 6 turn around in places; running statistics keep 0.9 a step as in timm, where the release keeps
0.9997, which tens of thousands of steps are needed for; batch norm has a scale, the release's none; and the release's
auxiliary classifier at 17 pixels, of which the paper says nothing, is not offered.

Features: `stage1` to `stage5` are the last maps at 1/2 (third convolution), 1/4 (147 to 71 pixels of the stem), 1/8
(modules A), 1/16 (B) and 1/32 (C) of the image.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp

from research.models import Published, Variant
from research.nn.conv import Dtype
from research.nn.inception import INCEPTION_CONV, Branches, Layer, Pool, Reductions
from research.nn.inception_net import InceptionNet, InceptionStage, scale_stages
from research.nn.layers import Activation, BatchNorm, Builder
from research.values import Count, Fraction, Natural, Positive

MINIMUM = 75
NORM = functools.partial(BatchNorm, epsilon=1e-3)
MAX = Pool("max", stride=2, padding=0)
AVERAGE = Pool("average")

# Szegedy et al. 2016, figure 3: the three places of the stem where its filters are concatenated.
STEM_1: Branches = ((MAX,), (Layer(96, 3, 2, 0),))
STEM_2: Branches = (
    (Layer(64), Layer(96, 3, 1, 0)),
    (Layer(64), Layer(64, 7, form="last_axis_first", inner=64), Layer(96, 3, 1, 0)),
)
STEM_3: Branches = ((Layer(192, 3, 2, 0),), (MAX,))
# Figures 4 to 6.
MODULE_A: Branches = (
    (Layer(96),),
    (Layer(64), Layer(96, 3)),
    (Layer(64), Layer(96, 3), Layer(96, 3)),
    (AVERAGE, Layer(96)),
)
MODULE_B: Branches = (
    (Layer(384),),
    (Layer(192), Layer(256, 7, form="last_axis_first", inner=224)),
    (
        Layer(192),
        Layer(224, 7, form="first_axis_first", inner=192),
        Layer(256, 7, form="first_axis_first", inner=224),
    ),
    (AVERAGE, Layer(128)),
)
MODULE_C: Branches = (
    (Layer(256),),
    (Layer(384), Layer(256, 3, form="side_by_side")),
    (Layer(384), Layer(512, 3, form="first_axis_first", inner=448), Layer(256, 3, form="side_by_side")),
    (AVERAGE, Layer(256)),
)


def reduction_a(k: int, l: int, m: int, n: int) -> Branches:  # noqa: E741  (the paper's letters)
    """Figure 7, with the letters of table 1."""
    return ((Layer(n, 3, 2, 0),), (Layer(k), Layer(l, 3), Layer(m, 3, 2, 0)), (MAX,))


# Figure 8.
REDUCTION_B: Branches = (
    (Layer(192), Layer(192, 3, 2, 0)),
    (Layer(256), Layer(320, 7, form="last_axis_first", inner=256), Layer(320, 3, 2, 0)),
    (MAX,),
)
# Figure 9.
STAGES = (
    InceptionStage((Layer(32, 3, 2, 0), Layer(32, 3, 1, 0), Layer(64, 3))),
    InceptionStage((STEM_1, STEM_2)),
    InceptionStage((STEM_3,), (MODULE_A,), 4),
    InceptionStage((reduction_a(192, 224, 256, 384),), (MODULE_B,), 7),
    InceptionStage((REDUCTION_B,), (MODULE_C,), 3),
)


def inception_v4(
    *,
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    reductions: Reductions = "all",
    factorised: bool = True,
    dropout: Fraction = 0.2,
    conv: Builder = INCEPTION_CONV,
    norm: Builder = NORM,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> InceptionNet:
    """The network of figure 9.

    The multipliers scale every row, stem included; widths are then rounded to a multiple of `channel_divisor`. Without
    `factorised` all 1 x n and n x 1 are n x n.
    """
    return InceptionNet(
        stages=scale_stages(STAGES, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        dropout=dropout,
        reductions=reductions,
        factorised=factorised,
        conv=conv,
        norm=norm,
        act=act,
        minimum=MINIMUM,
        dtype=dtype,
    )


VARIANTS = {
    "inception_v4": Variant(
        build=inception_v4,
        input_shape=(299, 299, 3),
        num_classes=1000,
        minimum=MINIMUM,
        summary="4, 7 and 3 uniform inception modules after a stem of them (Szegedy et al. 2016, figure 9)",
        paper="arXiv:1602.07261",
        published=Published(80.0, "Szegedy et al. 2016, table 2: one crop, validation images that are not blacklisted"),
    )
}
