"""MobileNetV3: searched inverted residuals with squeeze-and-excitation and hard-swish.

Andrew Howard, Mark Sandler, Grace Chu, Liang-Chieh Chen, Bo Chen, Mingxing Tan, Weijun Wang, Yukun Zhu, Ruoming Pang,
Vijay Vasudevan, Quoc V. Le, Hartwig Adam: "Searching for MobileNetV3", 2019, arXiv:1905.02244, table 1 (large) and
table 2 (small), section 5 (hard-swish, and squeeze-and-excitation to a quarter of the expanded channels).

As in the release (tensorflow/models, slim): padding "SAME", norm epsilon 1e-3, dropout 0.2, every kernel from a
truncated normal with standard deviation 0.09, those of squeeze-and-excitation too. Batch norm keeps 0.99 (section
6.1.1). The first layer after the pool has a bias and no norm; table 2's note of squeeze-and-excitation at its last 1x1
convolution is not in the release. torchvision's are `padding="symmetric"`, with the same epsilon.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.models import Published, Variant
from research.nn.conv import Dtype
from research.nn.inverted_residual import (
    SLIM_INIT,
    STEMS,
    TOTAL_STRIDE,
    Excite,
    GoogleBatchNorm,
    InvertedResidual,
    InvertedStage,
    ReleasePadding,
    SlimConv,
    for_stem,
    padded,
)
from research.nn.layers import Activation, Builder, ConvNormAct, fixed
from research.nn.trunk import SmallImageStem, Trunk, scale, scale_width
from research.values import Count, Fraction, Natural, Positive

INPUT_SHAPE = (224, 224, 3)


@dataclass(frozen=True, kw_only=True)
class Row(InvertedStage):
    """A row "bneck": column SE, and column NL: ReLU (RE) or the network's own activation, hard-swish (HS)."""

    excited: bool = False
    nonlinearity: Literal["RE", "HS"] = "HS"


class Table(NamedTuple):
    """A network: its rows, and the widths of the layers before and after the pool."""

    rows: tuple[Row, ...]
    final: int
    neck: int
    top1: float


# Howard et al. 2019, tables 1 and 2. Their column "exp size" is `expansion` times the channels that enter the block;
# rows that are equal in it, in width and in the other columns are one stage here. Top-1: table 3.
STEM_WIDTH = 16
LARGE = Table(
    (
        Row(1, 16, 1, expansion=1, nonlinearity="RE"),
        Row(1, 24, 2, expansion=64 / 16, nonlinearity="RE"),
        Row(1, 24, 1, expansion=72 / 24, nonlinearity="RE"),
        Row(3, 40, 2, kernel=5, expansion=72 / 24, excited=True, nonlinearity="RE"),
        Row(1, 80, 2, expansion=240 / 40),
        Row(1, 80, 1, expansion=200 / 80),
        Row(2, 80, 1, expansion=184 / 80),
        Row(2, 112, 1, expansion=480 / 80, excited=True),
        Row(3, 160, 2, kernel=5, expansion=672 / 112, excited=True),
    ),
    final=960,
    neck=1280,
    top1=75.2,
)
SMALL = Table(
    (
        Row(1, 16, 2, expansion=1, excited=True, nonlinearity="RE"),
        Row(1, 24, 2, expansion=72 / 16, nonlinearity="RE"),
        Row(1, 24, 1, expansion=88 / 24, nonlinearity="RE"),
        Row(1, 40, 2, kernel=5, expansion=96 / 24, excited=True),
        Row(2, 40, 1, kernel=5, expansion=240 / 40, excited=True),
        Row(2, 48, 1, kernel=5, expansion=120 / 40, excited=True),
        Row(3, 96, 2, kernel=5, expansion=288 / 48, excited=True),
    ),
    final=576,
    neck=1024,
    top1=67.4,
)


def bottleneck(
    *, excited: bool, nonlinearity: str, act: Activation, divisor: int, excite: float, **row: Any
) -> InvertedResidual:
    """The block of a row: `excite` of the expanded channels where it is `excited`, and ReLU instead of `act` for RE."""
    quarter = Excite(excite, "expanded", divisor, nn.relu, nn.hard_sigmoid, SLIM_INIT) if excited and excite else None
    return InvertedResidual(divisor=divisor, excite=quarter, act=nn.relu if nonlinearity == "RE" else act, **row)


class Neck(nn.Module):
    """A dense layer with activation after the pool: cheaper there than the 1x1 convolution before it (figure 5)."""

    width: int
    act: Activation = nn.hard_swish
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b width"]:
        """The features that the head sees."""
        return self.act(nn.Dense(self.width, kernel_init=SLIM_INIT, dtype=self.dtype, name="dense")(x))


def mobilenet_v3(
    *,
    table: Table,
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    stem: SmallImageStem = "imagenet",
    excite: Fraction = 0.25,
    dropout: Fraction = 0.2,
    stochastic_depth: Fraction = 0.0,
    padding: ReleasePadding = "same",
    norm_epsilon: Positive = 1e-3,
    conv: Builder = SlimConv,
    norm: Builder = GoogleBatchNorm,
    act: Activation = nn.hard_swish,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """The network of one table; an `excite` of 0 leaves squeeze-and-excitation out. Multipliers scale every layer."""
    stages = scale(table.rows, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor)
    final, neck = (scale_width(width, width_multiplier, channel_divisor) for width in (table.final, table.neck))
    return Trunk(
        stem_width=scale_width(STEM_WIDTH, width_multiplier, channel_divisor),
        stages=for_stem(stages, stem),
        num_classes=num_classes,
        block=fixed(bottleneck, divisor=channel_divisor, excite=excite),
        stem=STEMS[stem],
        final=fixed(ConvNormAct, width=final, kernel=1),
        neck=fixed(Neck, width=neck, act=act),
        dropout=dropout,
        head_init=SLIM_INIT,
        conv=padded(conv, padding),
        norm=fixed(norm, epsilon=norm_epsilon),
        act=act,
        minimum=TOTAL_STRIDE[stem],
        stochastic_depth=stochastic_depth,
        dtype=dtype,
    )


VARIANTS = {
    f"mobilenet_v3_{size}": Variant(
        build=functools.partial(mobilenet_v3, table=table),
        input_shape=INPUT_SHAPE,
        num_classes=1000,
        minimum=TOTAL_STRIDE["imagenet"],
        summary=f"MobileNetV3-{size.capitalize()}: searched inverted residuals, hard-swish (Howard et al. 2019)",
        paper="arXiv:1905.02244",
        published=Published(table.top1, "Howard et al. 2019, table 3, 224 px"),
    )
    for size, table in (("large", LARGE), ("small", SMALL))
}
