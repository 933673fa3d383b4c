"""SqueezeNet: AlexNet's accuracy with 50 times fewer parameters, out of fire modules.

Forrest N. Iandola, Song Han, Matthew W. Moskewicz, Khalid Ashraf, William J. Dally, Kurt Keutzer: "SqueezeNet:
AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size", 2016, arXiv:1602.07360, table 1 (1.0), section
3.2 (fire module), section 6 (`bypass`); 1.1 is the authors' release of a smaller one (github.com/forresti/SqueezeNet).

As in the release: conv1 without padding, pools whose last window may hang over the end, a ReLU on the last maps, so
that no logit is negative, dropout 0.5 before them; every kernel starts from Caffe's "xavier" (uniform, variance 1 /
fan-in), that of `head` from a normal with standard deviation 0.01. At 224 pixels (torchvision) conv1 of 1.0 has 109
pixels; the paper's table says 224 and 111, which 227 gives. Deviation: the release of 1.0 pads conv10, a 1x1
convolution, by a pixel, so that a border of nothing but biases counts in the means; here, as in 1.1 and torchvision, it
has none. `padding="keras"` is the form of some ports: conv1 "SAME", and pools that leave out what does not fill a
window.
"""

import functools
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.models import Published, Variant
from research.nn.conv import Conv, Dtype
from research.nn.layers import Activation, Builder, Features, fixed, require_resolution
from research.nn.pooling import global_average_pool, max_pool
from research.nn.trunk import SmallImageStem, Stage, scale, scale_width
from research.values import Count, Fraction, Natural, Positive, Share

INPUT_SHAPE = (224, 224, 3)
MINIMUM = {"imagenet": 32, "cifar": 8}
XAVIER = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
XavierConv = functools.partial(Conv, kernel_init=XAVIER)


class Fire(nn.Module):
    """1x1 to few channels, then 1x1 and 3x3 side by side (section 3.2), "b *space c" -> "b *space width".

    `squeeze_ratio` is the paper's SR, the first layer's share of `width`; `share_3x3` its pct_3x3. `bypass` adds the
    input where the widths are equal. Each layer has a bias and `act`.
    """

    width: int
    squeeze_ratio: float = 0.125
    share_3x3: float = 0.5
    bypass: bool = False
    conv: Builder = XavierConv
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space width"]:
        """The maps of both expand layers, those of the 1x1 first."""
        conv = functools.partial(self.conv, use_bias=True, dtype=self.dtype)
        squeezed = self.act(conv(max(1, round(self.squeeze_ratio * self.width)), 1, name="squeeze")(x))
        wide = round(self.share_3x3 * self.width)
        layers = {"expand1x1": (self.width - wide, 1), "expand3x3": (wide, 3)}
        maps = [self.act(conv(*size, name=name)(squeezed)) for name, size in layers.items() if size[0]]
        y = jnp.concatenate(maps, axis=-1)
        return x + y if self.bypass and x.shape[-1] == self.width else y


class SqueezeNet(nn.Module):
    """Convolution, fire modules in stages, the 1x1 convolution `head`, then the mean of each of its maps.

    "b *space c" -> float32 logits "b num_classes" (0: the means of the maps that `head` sees). Before a stage of stride
    2 there is a 3x3 max pool of it. Features are the outputs of the stages.
    """

    stem_width: int
    stem_kernel: int
    stages: tuple[Stage, ...]
    num_classes: int = 1000
    stem: SmallImageStem = "imagenet"
    block: Builder = Fire
    padding: Literal["caffe", "keras"] = "caffe"
    dropout: float = 0.5
    conv: Builder = XavierConv
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @property
    def minimum(self) -> int:
        """Pixels a side that leave something to every pool."""
        return MINIMUM[self.stem]

    @nn.compact
    def __call__(self, images: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b outputs"]:
        """Logits, or pooled features."""
        require_resolution(f"this {type(self).__name__}", images.shape[1:-1], self.minimum)
        conv = functools.partial(self.conv, use_bias=True, dtype=self.dtype)
        if self.stem == "cifar":
            x = self.act(conv(self.stem_width, 3, name="stem")(images))
        else:
            padding = {"caffe": 0, "keras": "SAME"}[self.padding]
            x = self.act(conv(self.stem_width, self.stem_kernel, 2, padding, name="stem")(images))
            x = self._pooled(x)
        for number, stage in enumerate(self.stages, 1):
            if stage.stride != 1:
                x = self._pooled(x)
            for index in range(stage.blocks):
                parts = {"conv": self.conv, "act": self.act, "dtype": self.dtype}
                x = self.block(stage.width, **parts, name=f"stage{number}_block{index + 1}")(x)
            x = Features(name=f"stage{number}")(x)
        if self.num_classes:
            x = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(x) if self.dropout else x
            x = self.act(conv(self.num_classes, 1, kernel_init=nn.initializers.normal(0.01), name="head")(x))
        return global_average_pool(x)

    def _pooled(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *out c"]:
        return max_pool(x, 3, 2, ceil=self.padding == "caffe")


def squeezenet(
    *,
    stem_width: int,
    stem_kernel: int,
    rows: tuple[Stage, ...],
    num_classes: Natural = 1000,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    stem: SmallImageStem = "imagenet",
    squeeze_ratio: Share = 0.125,
    share_3x3: Fraction = 0.5,
    bypass: bool = False,
    padding: Literal["caffe", "keras"] = "caffe",
    dropout: Fraction = 0.5,
    conv: Builder = XavierConv,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> SqueezeNet:
    """The network of one release, scaled by the multipliers; see `Fire` for the ratios."""
    return SqueezeNet(
        stem_width=scale_width(stem_width, width_multiplier, channel_divisor),
        stem_kernel=stem_kernel,
        stages=scale(rows, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        stem=stem,
        block=fixed(Fire, squeeze_ratio=squeeze_ratio, share_3x3=share_3x3, bypass=bypass),
        padding=padding,
        dropout=dropout,
        conv=conv,
        act=act,
        dtype=dtype,
    )


# Iandola et al. 2016, table 1: fire modules of e1x1 + e3x3 channels; a stride of 2 is a pool before the stage. Top-1 of
# 1.0: table 2.
V1_0 = functools.partial(
    squeezenet,
    stem_width=96,
    stem_kernel=7,
    rows=(Stage(2, 128), Stage(1, 256), Stage(1, 256, 2), Stage(2, 384), Stage(1, 512), Stage(1, 512, 2)),
)
# The release's SqueezeNet_v1.1: smaller kernels in conv1, fewer of them, earlier pools.
V1_1 = functools.partial(
    squeezenet,
    stem_width=64,
    stem_kernel=3,
    rows=(Stage(2, 128), Stage(2, 256, 2), Stage(2, 384, 2), Stage(2, 512)),
)


def _variant(build: functools.partial, summary: str, published: Published) -> Variant:
    return Variant(
        build=build,
        input_shape=INPUT_SHAPE,
        num_classes=1000,
        minimum=MINIMUM["imagenet"],
        summary=f"SqueezeNet {summary}",
        paper="arXiv:1602.07360",
        published=published,
    )


VARIANTS = {
    "squeezenet1_0": _variant(
        V1_0,
        "1.0: fire modules (Iandola et al. 2016, table 1)",
        Published(57.5, "Iandola et al. 2016, table 2, 227 px"),
    ),
    "squeezenet1_1": _variant(
        V1_1,
        "1.1: 2.4 times cheaper than 1.0 (the authors' release)",
        Published(58.178, "torchvision, SqueezeNet1_1_Weights.IMAGENET1K_V1: one crop of 224 pixels"),
    ),
}
