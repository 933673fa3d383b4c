"""Inception modules: parallel branches side by side, written as rows.

Szegedy et al. 2014, "Going Deeper with Convolutions" (arXiv:1409.4842), figure 2: 1x1, 3x3, 5x5 convolutions and a
pool next to each other, without (a) and with (b) 1x1 convolutions that reduce the channels first. Szegedy et al. 2015,
"Rethinking the Inception Architecture" (arXiv:1512.00567), section 3.2: an n x n convolution as 1 x n and n x 1.
Szegedy et al. 2016, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning"
(arXiv:1602.07261), figure 10: a module as the residual of a shortcut. Written for any spatial rank: a factorised
convolution has one 1-D kernel for each axis.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.nn.conv import Conv, Dtype, Padding, Sizes
from research.nn.layers import Activation, BatchNorm, Builder, ConvNormAct, configured
from research.nn.pooling import Padding as PoolPadding
from research.nn.pooling import average_pool, max_pool

# What the authors' release (github.com/tensorflow/models, slim) starts from; none of the papers says.
HE_FAN_IN = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
INCEPTION_CONV = functools.partial(Conv, kernel_init=HE_FAN_IN)

# Which 1x1 convolutions before a larger one and after a pool there are: all, those after a pool alone, or none.
Reductions = Literal["all", "pool", "none"]
# A kernel over all axes at once; one 1-D kernel for each axis in turn, the last axis first (1 x n, then n x 1) or the
# first (n x 1, then 1 x n); or those of all axes next to each other, each with `width` channels (1 x n beside n x 1).
Form = Literal["full", "last_axis_first", "first_axis_first", "side_by_side"]


class Layer(NamedTuple):
    """A convolution, norm and activation of `width` channels; in turn by axis, of `inner` ones but for the last."""

    width: int
    kernel: int = 1
    stride: int = 1
    padding: Padding = None
    form: Form = "full"
    inner: int = 0


class Pool(NamedTuple):
    """A pool; `ceil`: see `max_pool`. An average's padding counts as zeros only where `count_padding` says so."""

    kind: Literal["max", "average"]
    stride: int = 1
    padding: PoolPadding = 1
    window: int = 3
    ceil: bool = False
    count_padding: bool = False

    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *out c"]:
        """The pooled maps."""
        if self.kind == "max":
            return max_pool(x, self.window, self.stride, self.padding, ceil=self.ceil)
        return average_pool(x, self.window, self.stride, self.padding, count_padding=self.count_padding)


Branch = tuple[Layer | Pool, ...]
Branches = tuple[Branch, ...]
Step = Layer | Pool | Branches | Callable[[Array], Array]


def without_reductions(branch: Branch, kept: Reductions) -> Branch:
    """The branch without those of its 1x1 convolutions that `kept` leaves out; one that stands alone always stays."""

    def stays(index: int, step: Layer | Pool) -> bool:
        if not isinstance(step, Layer) or step.kernel != 1 or len(branch) == 1:
            return True
        after_pool = index > 0 and isinstance(branch[index - 1], Pool)
        return kept == "all" or (kept == "pool" and after_pool)

    return tuple(step for index, step in enumerate(branch) if stays(index, step))


class Convolution(NamedTuple):
    """One of the convolutions that a `Layer` is at some rank; `suffix` is of its name."""

    suffix: str
    width: int
    kernel: Sizes
    stride: Sizes


def convolutions(layer: Layer, rank: int, *, factorised: bool = True) -> Iterator[Convolution]:
    """What the row is for an input with `rank` spatial axes; its full form where not `factorised`."""
    beside = layer.form == "side_by_side"
    if layer.form == "full" or not factorised:
        yield Convolution("", layer.width * (rank if beside else 1), layer.kernel, layer.stride)
        return
    axes = range(rank) if layer.form == "first_axis_first" else range(rank)[::-1]
    for number, axis in enumerate(axes, 1):
        width = layer.width if beside or number == rank else layer.inner
        kernel = tuple(layer.kernel if a == axis else 1 for a in range(rank))
        stride = tuple(layer.stride if beside or a == axis else 1 for a in range(rank))
        yield Convolution(f"_axis{axis + 1}", width, kernel, stride)


def follow(
    steps: Sequence[Step],
    x: Float[Array, "b *space c"],
    *,
    prefix: str,
    train: bool,
    factorised: bool = True,
    module: Callable[[Branches, Array, str], Array] | None = None,
    **parts: Any,
) -> Float[Array, "b *out d"]:
    """`x` after the steps, one after another; to be called inside a compact method.

    Layers are called `{prefix}_layer1` and so on, and `{prefix}_layer1_axis2` where they are factorised; `parts` are
    `ConvNormAct`'s conv, norm, act and dtype. `module` applies parallel branches, called `{prefix}_mixed1`.
    """
    layers = modules = 0
    for step in steps:
        if isinstance(step, Layer):
            layers += 1
            applied = [
                ConvNormAct(
                    c.width, c.kernel, c.stride, step.padding, **parts, name=f"{prefix}_layer{layers}{c.suffix}"
                )
                for c in convolutions(step, x.ndim - 2, factorised=factorised)
            ]
            if step.form == "side_by_side":
                x = jnp.concatenate([layer(x, train=train) for layer in applied], axis=-1)
            else:
                for layer in applied:
                    x = layer(x, train=train)
        elif callable(step):
            x = step(x)
        elif module is not None:
            modules += 1
            x = module(step, x, f"{prefix}_mixed{modules}")
    return x


class Inception(nn.Module):
    """Branches side by side, their channels after one another, "b *space c" -> "b *out channels".

    `reductions` and `factorised` switch off what makes the module cheap: 1x1 convolutions before larger ones and after
    the pool, and 1-D kernels in the place of full ones. Parameters: `branch2_layer1/conv`, `branch2_layer1/norm`.
    """

    branches: Branches
    reductions: Reductions = "all"
    factorised: bool = True
    conv: Builder = INCEPTION_CONV
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *out channels"]:
        """The branches' outputs as channels of one array."""
        parts = {"conv": self.conv, "norm": self.norm, "act": self.act, "dtype": self.dtype}
        given = {"train": train, "factorised": self.factorised, **parts}
        branches = [without_reductions(branch, self.reductions) for branch in self.branches]
        outputs = [follow(branch, x, prefix=f"branch{n}", **given) for n, branch in enumerate(branches, 1)]
        return jnp.concatenate(outputs, axis=-1)


class ResidualInception(nn.Module):
    """x + scale * F(x), then the activation unless `linear`; F is an `Inception` and a 1x1 convolution with a bias.

    Szegedy et al. 2016, figure 10; a `scale` below 1 keeps wide networks from dying early in training (section 3.3 and
    figure 20). "b *space c" -> "b *space c". Parameters: those of `Inception` in `module`, and `projection`.
    """

    branches: Branches
    scale: float = 1.0
    linear: bool = False
    reductions: Reductions = "all"
    factorised: bool = True
    conv: Builder = INCEPTION_CONV
    norm: Builder = BatchNorm
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], *, train: bool) -> Float[Array, "b *space c"]:
        """The block's output."""
        parts = {"conv": self.conv, "norm": self.norm, "act": self.act, "dtype": self.dtype}
        y = Inception(self.branches, self.reductions, self.factorised, **parts, name="module")(x, train=train)
        conv, _ = configured(self.conv, self.norm, dtype=self.dtype, train=train)
        y = x + self.scale * conv(x.shape[-1], 1, use_bias=True, name="projection")(y)
        return y if self.linear else self.act(y)
