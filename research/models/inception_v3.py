"""Inception-v3: larger kernels factorised into 3x3 ones, and n x n into 1 x n and n x 1.

Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna: "Rethinking the Inception
Architecture for Computer Vision", 2015, arXiv:1512.00567, table 1, figures 5 to 7 (modules), figure 10 (grid reduction)
and figure 8 (auxiliary classifier). With `aux_heads` and `aux_batch_norm` false it is what table 1 and section 6 call
Inception-v2, and the normalised classifier, whose loss weighs 0.4, makes it Inception-v3. Table 3 contradicts this: its
rows add up, so that plain Inception-v2 also lacks the stem's 7x7 convolution as three 3x3 ones, which table 1 has.

Deviations: the paper gives table 1 and leaves out the channels of the modules; they, the 80 and 192 channels before the
modules (table 1 draws 80, 192 and 288) and a 5x5 convolution in the first modules where figure 5 draws two 3x3 are
those of the authors' release (github.com/tensorflow/models, slim, inception_v3.py), as are initial weights, dropout of
20% and epsilon 1e-3. Running statistics keep 0.9 a step as in torchvision, where the release keeps 0.9997, which tens
of thousands of steps are needed for; batch norm has a scale, as in torchvision, the release's none. `count_padding`:
torchvision's average pools count their padding as zeros, the release's do not. The auxiliary classifier's windows
shrink to maps that are smaller than they, as in the release.

Features: `stage1` to `stage5` are the last maps at 1/2 (third convolution), 1/4 (fifth), 1/8, 1/16 and 1/32 of the
image.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.models import Published, Variant
from research.nn.conv import Dtype
from research.nn.inception import INCEPTION_CONV, Branches, Layer, Pool, Reductions
from research.nn.inception_net import InceptionNet, InceptionStage, count_padding_in, scale_stages, small_window_pool
from research.nn.layers import Activation, BatchNorm, Builder, ConvNormAct, NoNorm, classify, fixed
from research.values import Count, Fraction, Natural, Positive

MINIMUM = 75
NORM = functools.partial(BatchNorm, epsilon=1e-3)
MAX = Pool("max", stride=2, padding=0)
AVERAGE = Pool("average")


def module_a(pooled: int) -> Branches:
    """Figure 5, at 35 pixels."""
    return (
        (Layer(64),),
        (Layer(48), Layer(64, 5)),
        (Layer(64), Layer(96, 3), Layer(96, 3)),
        (AVERAGE, Layer(pooled)),
    )


def module_b(inner: int) -> Branches:
    """Figure 6 with n = 7, at 17 pixels."""
    return (
        (Layer(192),),
        (Layer(inner), Layer(192, 7, form="last_axis_first", inner=inner)),
        (
            Layer(inner),
            Layer(inner, 7, form="first_axis_first", inner=inner),
            Layer(192, 7, form="first_axis_first", inner=inner),
        ),
        (AVERAGE, Layer(192)),
    )


# Figure 7, at 8 pixels.
MODULE_C: Branches = (
    (Layer(320),),
    (Layer(384), Layer(384, 3, form="side_by_side")),
    (Layer(448), Layer(384, 3), Layer(384, 3, form="side_by_side")),
    (AVERAGE, Layer(192)),
)
# Figure 10.
TO17: Branches = (
    (Layer(384, 3, 2, 0),),
    (Layer(64), Layer(96, 3), Layer(96, 3, 2, 0)),
    (MAX,),
)
TO8: Branches = (
    (Layer(192), Layer(320, 3, 2, 0)),
    (Layer(192), Layer(192, 7, form="last_axis_first", inner=192), Layer(192, 3, 2, 0)),
    (MAX,),
)
# Szegedy et al. 2015, table 1, with the release's channels.
STAGES = (
    InceptionStage((Layer(32, 3, 2, 0), Layer(32, 3, 1, 0), Layer(64, 3))),
    InceptionStage((MAX, Layer(80), Layer(192, 3, 1, 0))),
    InceptionStage((MAX,), tuple(map(module_a, (32, 64, 64))), 3),
    InceptionStage((TO17,), tuple(map(module_b, (128, 160, 160, 192))), 4, auxiliary=(4,)),
    InceptionStage((TO8,), (MODULE_C,), 2),
)


class ConvolutionalClassifier(nn.Module):
    """The auxiliary classifier of figure 8, "b *space c" -> float32 logits "b num_classes".

    5x5 average pool, 1x1 convolution of 128 channels, 5x5 one of 768 over what is left, global average, `head`. Without
    `last_norm` the 5x5 convolution, a dense layer in the paper, has a bias and no norm.
    """

    num_classes: int
    last_norm: bool = True
    conv: Builder = INCEPTION_CONV
    norm: Builder = NORM
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b num_classes"]:
        """Logits."""
        parts = {"conv": self.conv, "norm": self.norm, "act": self.act, "dtype": self.dtype}
        # Standard deviations of the release.
        small, smaller = (nn.initializers.truncated_normal(deviation) for deviation in (0.01, 0.001))
        y = ConvNormAct(128, 1, **parts, name="layer1")(small_window_pool(x), train=train)
        last = functools.partial(self.conv, kernel_init=small, use_bias=not self.last_norm)
        parts |= {"conv": last} | ({} if self.last_norm else {"norm": NoNorm})
        window = tuple(min(5, n) for n in y.shape[1:-1])
        y = ConvNormAct(768, window, 1, 0, **parts, name="layer2")(y, train=train)
        features = jnp.mean(y, axis=range(1, y.ndim - 1), dtype=jnp.float32)
        return classify(features, self.num_classes, train=train, kernel_init=smaller, dtype=self.dtype)


def inception_v3(
    *,
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    reductions: Reductions = "all",
    factorised: bool = True,
    count_padding: bool = False,
    dropout: Fraction = 0.2,
    aux_heads: bool = False,
    aux_batch_norm: bool = True,
    conv: Builder = INCEPTION_CONV,
    norm: Builder = NORM,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> InceptionNet:
    """The network of table 1.

    The multipliers scale every row; widths are then rounded to a multiple of `channel_divisor`, and where there are
    more modules than rows the last row of a resolution repeats. Without `factorised` all 1 x n and n x 1 are n x n.
    """
    stages = count_padding_in(STAGES) if count_padding else STAGES
    return InceptionNet(
        stages=scale_stages(stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        aux=fixed(ConvolutionalClassifier, last_norm=aux_batch_norm),
        aux_heads=aux_heads,
        aux_weight=0.4,
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
    "inception_v3": Variant(
        build=inception_v3,
        input_shape=(299, 299, 3),
        num_classes=1000,
        minimum=MINIMUM,
        summary="factorised inception modules and grid reductions (Szegedy et al. 2015, table 1)",
        paper="arXiv:1512.00567",
        published=Published(77.294, "torchvision.models.inception_v3, IMAGENET1K_V1, 299 px"),
    )
}
