"""Highway networks for CIFAR-10, of any depth.

Rupesh Kumar Srivastava, Klaus Greff, Juergen Schmidhuber: "Highway Networks", 2015, arXiv:1505.00387, eq. 2 and 3; at
length as "Training Very Deep Networks", arXiv:1507.06228. A layer's gate T, a sigmoid of a convolution of its own,
decides for each value how much of it is transformed: y = T(x) H(x) + (1 - T(x)) x. Its bias starts negative, so that
the network carries its input through at first. Where the shape changes, the layer is a plain one (section 2.1).

Deviations: the papers' networks of 19 and 32 layers have the widths and the max pools of FitNets and a dropout that is
not all told. Here the layers stand on the CIFAR table of residual networks (He et al. 2015, arXiv:1512.03385, section
4.2): 16, 32 and 64 channels at 32, 16 and 8 pixels, the first layer of a stage striding, global average pooling. So
`highway32` can be compared with `resnet32`; a gate doubles a layer's weights. There is no batch normalisation, which
came later; `batch_norm` puts it before the activation of H.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.errors import UserError
from research.models import Variant
from research.models.resnet_cifar import INPUT_SHAPE, TOTAL_STRIDE
from research.nn.conv import Conv, Dtype, Sizes, spread
from research.nn.layers import Activation, BatchNorm, Builder, NoNorm, configured, fixed
from research.nn.trunk import Stage, Trunk, scale, scale_width
from research.values import Count, Natural, Positive

DEPTHS = (19, 32)  # table 1 of arXiv:1507.06228
MINIMUM_DEPTH = 7  # two layers a stage


class HighwayBlock(nn.Module):
    """y = T(x) H(x) + (1 - T(x)) x with 3x3 convolutions, "b *space c" -> "b *space/stride width".

    H is `conv`, norm and activation; T the sigmoid of `transform_gate`, whose bias starts at `gate_bias`. Where the
    shape changes there is nothing to carry: the output is H(x).
    """

    width: int
    stride: Sizes = 1
    gate_bias: float = -3.0
    conv: Builder = Conv
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out width"]:
        """The transformed and the carried, mixed."""
        conv, norm = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        transformed = self.act(norm(name="norm")(conv(self.width, 3, self.stride, name="conv")(x)))
        if set(spread(self.stride, x.ndim - 2)) != {1} or x.shape[-1] != self.width:
            return transformed
        bias = nn.initializers.constant(self.gate_bias)
        gate = nn.sigmoid(conv(self.width, 3, use_bias=True, bias_init=bias, name="transform_gate")(x))
        return gate * transformed + (1 - gate) * x


def highway_network(
    *,
    depth: int,
    num_classes: Natural = 10,
    width: Count = 16,
    width_multiplier: Positive = 1.0,
    depth_multiplier: Positive = 1.0,
    channel_divisor: Count = 8,
    gate_bias: float = -3.0,
    batch_norm: bool = False,
    conv: Builder = Conv,
    norm: Builder = BatchNorm,
    act: Activation = nn.relu,
    dtype: Dtype = jnp.float32,
) -> Trunk:
    """`depth` weighted layers, the dense one with them: a third at each of three resolutions, the odd ones first.

    The first layer of each stage (the stem, for the first) is plain. `gate_bias` is where the bias of each gate starts:
    the paper's examples are -1 and -3. `norm` is used with `batch_norm`, and convolutions have a bias without it.
    """
    first, *later = ((depth - 1 + odd) // 3 for odd in (2, 1, 0))
    stages = [Stage(first - 1, width), *(Stage(n, width << doubling, 2) for doubling, n in enumerate(later, 1))]
    return Trunk(
        stem_width=scale_width(width, width_multiplier, channel_divisor),
        stages=scale(stages, width=width_multiplier, depth=depth_multiplier, divisor=channel_divisor),
        num_classes=num_classes,
        block=fixed(HighwayBlock, gate_bias=gate_bias),
        conv=conv if batch_norm else fixed(conv, use_bias=True),
        norm=norm if batch_norm else NoNorm,
        act=act,
        minimum=TOTAL_STRIDE,
        dtype=dtype,
    )


def highway(depth: int) -> Variant:
    """`highway{depth}`. Raises `UserError` where `depth` leaves a stage without a gate."""
    if depth < MINIMUM_DEPTH:
        raise UserError(f"unknown model 'highway{depth}': expected {MINIMUM_DEPTH} layers at least")
    return Variant(
        build=functools.partial(highway_network, depth=depth),
        input_shape=INPUT_SHAPE,
        num_classes=10,
        minimum=TOTAL_STRIDE,
        summary=f"highway network of {depth} layers for small images (Srivastava et al. 2015, eq. 3)",
        paper="arXiv:1505.00387",
    )


PATTERNS = {"highway{depth}": highway}
VARIANTS = {f"highway{depth}": highway(depth) for depth in DEPTHS}
