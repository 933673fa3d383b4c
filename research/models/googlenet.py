"""GoogLeNet, as printed and as it is mostly used today.

Christian Szegedy, Wei Liu, Yangqing Jia, Pierre Sermanet, Scott Reed, Dragomir Anguelov, Dumitru Erhan, Vincent
Vanhoucke, Andrew Rabinovich: "Going Deeper with Convolutions", 2014, arXiv:1409.4842, table 1 and figure 3 (the
network), section 5 (auxiliary classifiers after 4a and 4d, whose losses weigh 0.3; dropout of 40% and 70%).

`googlenet` is the paper's: convolutions with biases, local response normalisation, no batch norm. The paper prints
sizes and no rule at the border: pools have no padding, and their last window hangs over the end, as in Caffe. It says
nothing of initial weights: here He's, by fan-in, and zero biases; and gives no constants of response normalisation:
here AlexNet's (k = 2, the sum times 1e-4), where Caffe's release has k = 1 and divides the sum by the 5 channels first.
`googlenet_bn` is torchvision's: batch norm (epsilon 1e-3) in the place of biases and response normalisation, 3x3
kernels where the paper has 5x5 (an old mistake that its weights rely on), a 2x2 window in the last pool, weights that
start normal with standard deviation 0.01, dropout of 20%, and auxiliary classifiers whose pool always gives 4x4 pixels.

Features: `stage1` to `stage5` are the last maps at 1/2 (conv1), 1/4 (conv2), 1/8 (3b), 1/16 (4e) and 1/32 (5b) of the
image. With `stem="cifar"`, a 3x3 convolution of 192 channels in the place of conv1, conv2 and their pools, `stage1` to
`stage3` are at 1, 1/2 and 1/4.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from research.models import Published, Variant
from research.nn.conv import Conv, Dtype
from research.nn.inception import INCEPTION_CONV, Branches, Layer, Pool, Reductions
from research.nn.inception_net import AuxiliaryClassifier, InceptionNet, InceptionStage, scale_stages, small_window_pool
from research.nn.layers import LECUN, Activation, BatchNorm, Builder, NoNorm, fixed
from research.nn.normalisation import local_response_norm
from research.nn.trunk import SmallImageStem
from research.values import Count, Fraction, Natural, Positive

INPUT_SHAPE = (224, 224, 3)
MINIMUM = {"imagenet": 32, "cifar": 4}
AUX_WEIGHT = 0.3
ARXIV = "arXiv:1409.4842"


class Row(NamedTuple):
    """A row of table 1: channels of #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5 and pool proj."""

    one: int
    three_reduced: int
    three: int
    five_reduced: int
    five: int
    pooled: int

    def branches(self, largest: int = 5) -> Branches:
        """Figure 2b; `largest` is the side of the 5x5 kernels."""
        return (
            (Layer(self.one),),
            (Layer(self.three_reduced), Layer(self.three, 3)),
            (Layer(self.five_reduced), Layer(self.five, largest)),
            (Pool("max"), Layer(self.pooled)),
        )


# Szegedy et al. 2014, table 1: the modules at 28, 14 and 7 pixels.
MODULES = (
    (Row(64, 96, 128, 16, 32, 32), Row(128, 128, 192, 32, 96, 64)),
    (
        Row(192, 96, 208, 16, 48, 64),
        Row(160, 112, 224, 24, 64, 64),
        Row(128, 128, 256, 24, 64, 64),
        Row(112, 144, 288, 32, 64, 64),
        Row(256, 160, 320, 32, 128, 128),
    ),
    (Row(256, 160, 320, 32, 128, 128), Row(384, 192, 384, 48, 128, 128)),
)
AUXILIARY = (1, 4)  # after 4a and 4d


def adaptive_average_pool(x: Float[Array, "b *space c"], size: int = 4) -> Float[Array, "b *out c"]:
    """PyTorch's: `size` windows along each axis; window i is from floor(i n / size) to ceil((i + 1) n / size)."""
    for axis in range(1, x.ndim - 1):
        n = x.shape[axis]
        weights = np.zeros((n, size), np.float32)
        for i in range(size):
            start, end = i * n // size, -(-(i + 1) * n // size)
            weights[start:end, i] = 1 / (end - start)
        x = jnp.moveaxis(jnp.tensordot(x, jnp.asarray(weights, x.dtype), ((axis,), (0,))), -1, axis)
    return x


class Edition(NamedTuple):
    """In what the paper's network and torchvision's differ; `largest` is the side of the 5x5 kernels.

    With `use_bias` convolutions have a bias, whatever builder makes them.
    """

    conv: Builder
    use_bias: bool
    norm: Builder
    response_norm: bool
    largest: int
    last_window: int
    aux_pool: Callable[[Array], Array]
    dropout: float
    dense_init: Callable[..., Array]


NORMAL = nn.initializers.normal(0.01)
PAPER = Edition(
    conv=INCEPTION_CONV,
    use_bias=True,
    norm=NoNorm,
    response_norm=True,
    largest=5,
    last_window=3,
    aux_pool=small_window_pool,
    dropout=0.4,
    dense_init=LECUN,
)
TORCHVISION = Edition(
    conv=functools.partial(Conv, kernel_init=NORMAL),
    use_bias=False,
    norm=functools.partial(BatchNorm, epsilon=1e-3),
    response_norm=False,
    largest=3,
    last_window=2,
    aux_pool=adaptive_average_pool,
    dropout=0.2,
    dense_init=NORMAL,
)


def table(edition: Edition, stem: SmallImageStem) -> tuple[InceptionStage, ...]:
    """The rows of table 1."""
    pool = Pool("max", stride=2, padding=0, ceil=True)
    norm = (local_response_norm,) if edition.response_norm else ()
    at28, at14, at7 = (tuple(row.branches(edition.largest) for row in rows) for rows in MODULES)
    modules = (
        InceptionStage((*norm, pool) if stem == "imagenet" else (Layer(192, 3),), at28, len(at28)),
        InceptionStage((pool,), at14, len(at14), auxiliary=AUXILIARY),
        InceptionStage((pool._replace(window=edition.last_window),), at7, len(at7)),
    )
    if stem == "cifar":
        return modules
    convs = InceptionStage((Layer(64, 7, 2),)), InceptionStage((pool, *norm, Layer(64), Layer(192, 3)))
    return convs + modules


def googlenet(
    *,
    edition: Edition,
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    stem: SmallImageStem = "imagenet",
    reductions: Reductions = "all",
    dropout: Fraction | None = None,
    aux_heads: bool = False,
    aux_dropout: Fraction = 0.7,
    conv: Builder | None = None,
    norm: Builder | None = None,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> InceptionNet:
    """The network of table 1; None stands for what the edition has.

    The multipliers scale every row; widths are then rounded to a multiple of `channel_divisor`, and where there are
    more modules than rows the last row of a resolution repeats.
    """
    stages = table(edition, stem)
    init, conv = edition.dense_init, conv or edition.conv
    return InceptionNet(
        stages=scale_stages(stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        aux=fixed(AuxiliaryClassifier, pool=edition.aux_pool, dropout=aux_dropout, kernel_init=init),
        aux_heads=aux_heads,
        aux_weight=AUX_WEIGHT,
        dropout=edition.dropout if dropout is None else dropout,
        head_init=init,
        reductions=reductions,
        conv=fixed(conv, use_bias=True) if edition.use_bias else conv,
        norm=norm or edition.norm,
        act=act,
        minimum=MINIMUM[stem],
        dtype=dtype,
    )


def _variant(edition: Edition, summary: str, paper: str, published: Published | None = None) -> Variant:
    return Variant(
        build=functools.partial(googlenet, edition=edition),
        input_shape=INPUT_SHAPE,
        num_classes=1000,
        minimum=MINIMUM["imagenet"],
        summary=summary,
        paper=paper,
        published=published,
    )


VARIANTS = {
    "googlenet": _variant(
        PAPER, "inception modules, response normalisation, no batch norm (Szegedy et al. 2014, table 1)", ARXIV
    ),
    "googlenet_bn": _variant(
        TORCHVISION,
        "GoogLeNet with batch norm and 3x3 for 5x5, as in torchvision (after Szegedy et al. 2014, table 1)",
        f"torchvision, after {ARXIV}",
        Published(69.778, "torchvision.models.googlenet, IMAGENET1K_V1, 224 px"),
    ),
}
