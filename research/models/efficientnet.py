"""EfficientNet B0 to B8 and L2, and EfficientNet-Lite: one searched network, scaled in all three dimensions at once.

Mingxing Tan, Quoc V. Le: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019,
arXiv:1905.11946, table 1 (B0), section 5.2 (swish, stochastic depth 0.2, dropout growing from 0.2 to 0.5), and the
released code (tensorflow/tpu), which has the width, depth, resolution and dropout of each. B8: Xie et al. 2019,
"Adversarial Examples Improve Image Recognition", arXiv:1911.09665. L2: Xie et al. 2019, "Self-training with Noisy
Student", arXiv:1911.04252, table 7, trained at 475 pixels and tested at 800. Lite: the released code alone; no
squeeze-and-excitation, ReLU6, and neither the stem nor the head, nor the depth of the first and last stage, is scaled.

As in the release: padding "SAME", norm epsilon 1e-3, batch norm keeps 0.99; convolutions start from a normal with
variance 2 / (k^2 x output channels of a group), the dense layer from a uniform within 1 / sqrt(classes). timm's
`tf_efficientnet_b0` is this network, torchvision's and timm's `efficientnet_b0` is `padding="symmetric",
norm_epsilon=1e-5`; torchvision's b5 to b7 have the release's epsilon.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from research.errors import UserError
from research.models import Published, Variant
from research.nn.conv import HE_FAN_OUT, Conv, Dtype, spread
from research.nn.inverted_residual import (
    DEPTHWISE_INIT,
    HEAD_INIT,
    STEMS,
    TOTAL_STRIDE,
    Excite,
    GoogleBatchNorm,
    InvertedResidual,
    InvertedStage,
    ReleasePadding,
    for_stem,
    padded,
)
from research.nn.layers import Activation, Builder, ConvNormAct, fixed
from research.nn.trunk import SmallImageStem, Trunk, scale, scale_width
from research.values import Count, Fraction, Natural, Positive

# Tan and Le 2019, table 1.
STEM_WIDTH = 32
STAGES = (
    InvertedStage(1, 16, 1, kernel=3, expansion=1),
    InvertedStage(2, 24, 2, kernel=3),
    InvertedStage(2, 40, 2, kernel=5),
    InvertedStage(3, 80, 2, kernel=3),
    InvertedStage(3, 112, 1, kernel=5),
    InvertedStage(4, 192, 2, kernel=5),
    InvertedStage(1, 320, 1, kernel=3),
)
ALL_STAGES = tuple(range(1, len(STAGES) + 1))
FINAL_WIDTH = 1280
TABLE_2 = "Tan and Le 2019 (v5), table 2, single crop"


class Scaling(NamedTuple):
    """A network as multiples of B0's width and depth, its resolution in pixels, dropout, and what is published."""

    width: float
    depth: float
    resolution: int
    dropout: float
    top1: float
    source: str = TABLE_2


# The released code's `efficientnet_params`.
SCALINGS = {
    "b0": Scaling(1.0, 1.0, 224, 0.2, 77.1),
    "b1": Scaling(1.0, 1.1, 240, 0.2, 79.1),
    "b2": Scaling(1.1, 1.2, 260, 0.3, 80.1),
    "b3": Scaling(1.2, 1.4, 300, 0.3, 81.6),
    "b4": Scaling(1.4, 1.8, 380, 0.4, 82.9),
    "b5": Scaling(1.6, 2.2, 456, 0.4, 83.6),
    "b6": Scaling(1.8, 2.6, 528, 0.5, 84.0),
    "b7": Scaling(2.0, 3.1, 600, 0.5, 84.3),
    "b8": Scaling(2.2, 3.6, 672, 0.5, 85.5, "Xie et al. 2019 (AdvProp), abstract, adversarial training"),
    "l2": Scaling(
        4.3, 5.3, 475, 0.5, 88.4, "Xie et al. 2019 (Noisy Student), abstract, 300 M unlabelled images, 800 px"
    ),
}

# The released code's `efficientnet_lite_params`, and the accuracies in its README.
LITE_README = "tensorflow/tpu, models/official/efficientnet/lite/README.md, FP32"
LITE_SCALINGS = {
    "lite0": Scaling(1.0, 1.0, 224, 0.2, 75.1, LITE_README),
    "lite1": Scaling(1.0, 1.1, 240, 0.2, 76.7, LITE_README),
    "lite2": Scaling(1.1, 1.2, 260, 0.3, 77.6, LITE_README),
    "lite3": Scaling(1.2, 1.4, 280, 0.3, 79.8, LITE_README),
    "lite4": Scaling(1.4, 1.8, 300, 0.3, 81.5, LITE_README),
}


def efficientnet(
    *,
    scaling: Scaling,
    lite: bool,
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    stem: SmallImageStem = "imagenet",
    keep_stages: tuple[int, ...] = ALL_STAGES,
    excite: Fraction = 0.25,
    dropout: Fraction | None = None,
    stochastic_depth: Fraction = 0.2,
    padding: ReleasePadding = "same",
    norm_epsilon: Positive = 1e-3,
    conv: Builder = Conv,
    norm: Builder = GoogleBatchNorm,
    act: Activation = nn.swish,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """B0 scaled by `scaling`, then by the multipliers; a `dropout` of None is `scaling`'s.

    `keep_stages`: which of the seven stages, by number from 1, for smaller networks than the paper has.
    `excite` is how many of a block's input channels it squeezes to; 0 leaves squeeze-and-excitation out. `lite`: the
    stem, the head and the depth of the first and last stage are B0's.
    """
    rows = scale(STAGES, width=scaling.width, depth=scaling.depth)
    if lite:
        ends = {0: STAGES[0].blocks, len(STAGES) - 1: STAGES[-1].blocks}
        rows = tuple(dataclasses.replace(row, blocks=ends.get(index, row.blocks)) for index, row in enumerate(rows))
    if not keep_stages or not set(keep_stages) <= set(ALL_STAGES):
        raise UserError(f"keep_stages is {keep_stages!r}; expected numbers from 1 to {len(STAGES)}, one at least")
    kept = [row for number, row in enumerate(rows, 1) if number in keep_stages]
    stages = for_stem(scale(kept, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor), stem)
    outer = (scale_width(width, 1.0 if lite else scaling.width) for width in (STEM_WIDTH, FINAL_WIDTH))
    stem_width, final_width = (scale_width(width, width_multiplier, channel_divisor) for width in outer)
    return Trunk(
        stem_width=stem_width,
        stages=stages,
        num_classes=num_classes,
        block=fixed(
            InvertedResidual,
            excite=Excite(excite, act=act, kernel_init=HE_FAN_OUT) if excite else None,
            depthwise_init=DEPTHWISE_INIT,
        ),
        stem=STEMS[stem],
        final=fixed(ConvNormAct, width=final_width, kernel=1),
        dropout=scaling.dropout if dropout is None else dropout,
        head_init=HEAD_INIT,
        conv=padded(conv, padding),
        norm=fixed(norm, epsilon=norm_epsilon),
        act=act,
        minimum=math.prod(max(spread(row.stride, 2)) for row in stages) * (2 if stem == "imagenet" else 1),
        stochastic_depth=stochastic_depth,
        drop_first=False,
        dtype=dtype,
    )


def _variant(name: str, scaling: Scaling, paper: str, **fields: Any) -> Variant:
    return Variant(
        build=functools.partial(efficientnet, scaling=scaling, **fields),
        input_shape=(scaling.resolution, scaling.resolution, 3),
        num_classes=1000,
        minimum=TOTAL_STRIDE["imagenet"],
        summary=f"EfficientNet-{name.capitalize()}: B0 with {scaling.width:g} x width, {scaling.depth:g} x depth, "
        f"{scaling.resolution} px (Tan and Le 2019)",
        paper=paper,
        published=Published(scaling.top1, scaling.source),
    )


PAPERS = {"b8": "arXiv:1911.09665", "l2": "arXiv:1911.04252"}
LITE = "tensorflow/tpu, after arXiv:1905.11946"

VARIANTS = {
    f"efficientnet_{name}": _variant(name, scaling, PAPERS.get(name, "arXiv:1905.11946"), lite=False)
    for name, scaling in SCALINGS.items()
} | {
    f"efficientnet_{name}": _variant(name, scaling, LITE, lite=True, excite=0.0, act=nn.relu6)
    for name, scaling in LITE_SCALINGS.items()
}
