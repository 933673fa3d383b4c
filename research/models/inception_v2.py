"""BN-Inception, also called Inception-v2: GoogLeNet with batch normalisation.

Sergey Ioffe, Christian Szegedy: "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift", 2015, arXiv:1502.03167, figure 5 (the network) and section 4.2: two 3x3 convolutions in the place of each 5x5,
modules of stride 2 (3c, 4e) in the place of pools between the resolutions, average pools in most modules.

Szegedy et al. 2015 (arXiv:1512.00567) call a network of their own Inception-v2 too, and contradict themselves: the one
that their table 1 draws is `inception_v3` with `aux_batch_norm` false; the first of their table 3, whose rows add up,
also lacks the stem's 7x7 convolution as three 3x3 ones.

Deviations: convolutions have a bias before the norm, as in the released weights (figure 5 has none to count; the norm
makes it redundant), and they start from He's by fan-in. Figure 5 prints 576 channels where its own columns add up to
608 (4c, 4d) and hence 1024 where 4e gives 1056: the columns are followed. Its first convolution was separable; here,
as in the released weights, it is plain. There is no dropout (section 4.2.1 removes it). The paper does not draw the
auxiliary classifiers: they are GoogLeNet's, after 4a and 4d. Batch norm has epsilon 1e-3, as in the authors'
later releases, and its running statistics keep 0.9 a step; the paper gives neither.

Features: `stage1` to `stage5` are the last maps at 1/2 (first convolution), 1/4 (second), 1/8 (3b), 1/16 (4d) and 1/32
(5b) of the image. With `stem="cifar"`, a 3x3 convolution of 192 channels in the place of the first two and their pools,
`stage1` to `stage3` are at 1, 1/2 and 1/4.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from research.models import Published, Variant
from research.nn.conv import Dtype
from research.nn.inception import INCEPTION_CONV, Branches, Layer, Pool, Reductions
from research.nn.inception_net import AuxiliaryClassifier, InceptionNet, InceptionStage, scale_stages
from research.nn.layers import Activation, BatchNorm, Builder, fixed
from research.nn.trunk import SmallImageStem
from research.values import Count, Fraction, Natural, Positive

MINIMUM = {"imagenet": 32, "cifar": 4}
NORM = functools.partial(BatchNorm, epsilon=1e-3)
POOL = Pool("max", stride=2, padding="SAME")  # at even sizes Caffe's, whose last window hangs over the end


class Row(NamedTuple):
    """A row of figure 5: #1x1, #3x3 reduce, #3x3, double #3x3 reduce, double #3x3, pool and its projection."""

    one: int
    three_reduced: int
    three: int
    double_reduced: int
    double: int
    pool: Pool
    pooled: int

    def branches(self) -> Branches:
        """The module of stride 1."""
        return (
            (Layer(self.one),),
            (Layer(self.three_reduced), Layer(self.three, 3)),
            (Layer(self.double_reduced), Layer(self.double, 3), Layer(self.double, 3)),
            (self.pool, Layer(self.pooled)),
        )

    def reduction(self) -> Branches:
        """The module of stride 2: no 1x1 branch, and a pool that passes all channels through."""
        return (
            (Layer(self.three_reduced), Layer(self.three, 3, 2)),
            (Layer(self.double_reduced), Layer(self.double, 3), Layer(self.double, 3, 2)),
            (self.pool,),
        )


# Ioffe and Szegedy 2015, figure 5.
AVERAGE = Pool("average", count_padding=True)  # as in Caffe
AT28 = (Row(64, 64, 64, 64, 96, AVERAGE, 32), Row(64, 64, 96, 64, 96, AVERAGE, 64))  # 3a, 3b
TO14 = Row(0, 128, 160, 64, 96, POOL, 0)  # 3c
AT14 = (
    Row(224, 64, 96, 96, 128, AVERAGE, 128),  # 4a
    Row(192, 96, 128, 96, 128, AVERAGE, 128),
    Row(160, 128, 160, 128, 160, AVERAGE, 128),
    Row(96, 128, 192, 160, 192, AVERAGE, 128),  # 4d
)
TO7 = Row(0, 128, 192, 192, 256, POOL, 0)  # 4e
AT7 = (Row(352, 192, 320, 160, 224, AVERAGE, 128), Row(352, 192, 320, 192, 224, Pool("max"), 128))  # 5a, 5b
AUXILIARY = (1, 4)  # after 4a and 4d, as in GoogLeNet


def table(stem: SmallImageStem) -> tuple[InceptionStage, ...]:
    """The rows of figure 5; each module of stride 2 leads to its resolution."""
    at28, at14, at7 = (tuple(row.branches() for row in rows) for rows in (AT28, AT14, AT7))
    modules = (
        InceptionStage((POOL,) if stem == "imagenet" else (Layer(192, 3),), at28, len(at28)),
        InceptionStage((TO14.reduction(),), at14, len(at14), auxiliary=AUXILIARY),
        InceptionStage((TO7.reduction(),), at7, len(at7)),
    )
    if stem == "cifar":
        return modules
    return InceptionStage((Layer(64, 7, 2),)), InceptionStage((POOL, Layer(64), Layer(192, 3))), *modules


def inception_v2(
    *,
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    stem: SmallImageStem = "imagenet",
    reductions: Reductions = "all",
    dropout: Fraction = 0.0,
    aux_heads: bool = False,
    aux_dropout: Fraction = 0.7,
    conv: Builder = INCEPTION_CONV,
    norm: Builder = NORM,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> InceptionNet:
    """The network of figure 5.

    The multipliers scale every row; widths are then rounded to a multiple of `channel_divisor`, and where there are
    more modules than rows the last row of a resolution repeats.
    """
    return InceptionNet(
        stages=scale_stages(table(stem), width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        aux=fixed(AuxiliaryClassifier, dropout=aux_dropout),
        aux_heads=aux_heads,
        aux_weight=0.3,
        dropout=dropout,
        reductions=reductions,
        conv=fixed(conv, use_bias=True),
        norm=norm,
        act=act,
        minimum=MINIMUM[stem],
        dtype=dtype,
    )


VARIANTS = {
    "inception_v2": Variant(
        build=inception_v2,
        input_shape=(224, 224, 3),
        num_classes=1000,
        minimum=MINIMUM["imagenet"],
        summary="BN-Inception: GoogLeNet with batch norm, two 3x3 for 5x5 (Ioffe and Szegedy 2015, figure 5)",
        paper="arXiv:1502.03167",
        published=Published(74.8, "Ioffe and Szegedy 2015, figure 3: BN-x30, one crop"),
    )
}
