"""Spatial transformer: a network that crops, turns and scales its own input before it classifies it.

Max Jaderberg, Karen Simonyan, Andrew Zisserman, Koray Kavukcuoglu: "Spatial Transformer Networks", 2015,
arXiv:1506.02025, section 3 (localisation network, eq. 1 grid, eq. 5 bilinear sampler) and section 4.1 (distorted MNIST,
60x60 pixels where it is cluttered). The last layer of the localisation network starts as the identity transform.

`stn_lenet` puts one in front of a LeNet-like classifier, whose first step is an average pool, for a zoomed-out sample
is aliased. Deviation: the widths and kernels are those of MatConvNet's example for cluttered MNIST, not the paper's.
"""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from research.models import Variant
from research.nn.conv import Conv, Dtype
from research.nn.layers import LECUN, Activation, Builder, Features, classify, require_resolution
from research.nn.pooling import average_pool, max_pool
from research.values import Natural

INPUT_SHAPE = (60, 60, 1)
MINIMUM = {"valid": 36, "same": 8}


def affine_grid(theta: Float[Array, "b 2 3"], size: tuple[int, int]) -> Float[Array, "b h w 2"]:
    """Where each of `size` (h, w) output pixels comes from, as (x, y): theta times (x, y, 1) of the pixel (eq. 1).

    Coordinates run from -1 at the centre of the first pixel to 1 at that of the last, in the output as in the input.
    """
    y, x = (jnp.linspace(-1, 1, pixels, dtype=theta.dtype) for pixels in size)
    x, y = x[None, None, :, None], y[None, :, None, None]
    across, down, shift = (theta[:, None, None, :, column] for column in range(3))
    return across * x + down * y + shift  # not a product of matrices, which an accelerator would round to few bits


def bilinear_sample(images: Float[Array, "b h w c"], grid: Float[Array, "b h2 w2 2"]) -> Float[Array, "b h2 w2 c"]:
    """The images at the (x, y) of `grid` (see `affine_grid`), between four pixels; beyond the border is zero (eq. 5).

    Differentiable in both; at a pixel's centre the slope is that towards the next pixel.
    """
    height, width = images.shape[1:3]
    x, y = (grid[..., 0] + 1) / 2 * (width - 1), (grid[..., 1] + 1) / 2 * (height - 1)
    left, top = jnp.floor(jax.lax.stop_gradient(x)), jnp.floor(jax.lax.stop_gradient(y))
    batch = jnp.arange(images.shape[0])[:, None, None]

    def corner(across: int, down: int) -> Float[Array, "b h2 w2 c"]:
        column, row = left + across, top + down
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        indices = (jnp.clip(row, 0, height - 1).astype(int), jnp.clip(column, 0, width - 1).astype(int))
        share = (x - left if across else 1 - (x - left)) * (y - top if down else 1 - (y - top))
        return images[batch, *indices] * jnp.where(inside, share, 0)[..., None].astype(images.dtype)

    return corner(0, 0) + corner(1, 0) + corner(0, 1) + corner(1, 1)


class Localisation(nn.Module):
    """What the transform is read from: pool, convolution, pool, convolution and a dense layer, -> "b 50".

    The dense layer is a convolution as large as the maps, as `theta` in `SpatialTransformer` is one too. What rounding
    does to the transform is some hundred times as large in the pixels sampled from a noisy image.
    """

    conv: Builder = Conv
    act: Activation = nn.relu

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b f"]:
        """The features."""
        conv = functools.partial(self.conv, use_bias=True, kernel_init=LECUN)
        x = self.act(conv(20, 5, name="conv1")(max_pool(x, 2, 2)))
        x = self.act(conv(20, 5, name="conv2")(max_pool(x, 2, 2)))
        dense = Conv(50, x.shape[1:3], padding=0, use_bias=True, kernel_init=LECUN, name="dense1")
        return self.act(dense(x)).reshape(x.shape[0], -1)


class SpatialTransformer(nn.Module):
    """Images or maps, each seen through an affine transform read from itself, "b h w c" -> "b *size c".

    `localisation` builds what gives features "b f", of which the layer `theta` makes the transform: the identity
    at first. `size` is (h, w) of the output; None: that of the input. Everything here is computed in float32, since
    eight bits do not say where among sixty pixels.
    """

    localisation: Builder = Localisation
    size: tuple[int, int] | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        """The sampled maps, in the type of `x`."""
        exact = x.astype(jnp.float32)
        features = self.localisation(name="localisation")(exact)
        last = Conv(6, 1, use_bias=True, kernel_init=nn.initializers.zeros, bias_init=_identity, name="theta")
        theta = last(features[:, None, None, :]).reshape(-1, 2, 3)
        grid = affine_grid(theta, self.size or (x.shape[1], x.shape[2]))
        return bilinear_sample(exact, grid).astype(x.dtype)


def _identity(key: Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
    return jnp.asarray(np.eye(2, 3).reshape(shape), dtype)


class SpatialTransformerLeNet(nn.Module):
    """A spatial transformer and a LeNet-like classifier, "b h w c" -> float32 logits "b num_classes" (0: 256 features).

    Without `transform` the classifier is alone. Convolutions are "valid" (36 pixels at least) or keep the "same" size
    (8 pixels at least). Features `stage1` and `stage2` are what the classifier's max pools see.
    """

    num_classes: Natural = 10
    transform: bool = True
    padding: Literal["valid", "same"] = "valid"
    conv: Builder = Conv
    act: Activation = nn.relu
    dtype: Dtype = jnp.float32

    @property
    def minimum(self) -> int:
        """Pixels a side."""
        return MINIMUM[self.padding]

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b outputs"]:
        """Logits, or the last features; training and evaluation are the same."""
        require_resolution(f"this {type(self).__name__}", images.shape[1:-1], self.minimum)
        padded = functools.partial(self.conv, padding=0 if self.padding == "valid" else None)
        conv = functools.partial(padded, use_bias=True, kernel_init=LECUN, dtype=self.dtype)
        x = images
        if self.transform:
            localisation = functools.partial(Localisation, conv=padded, act=self.act)
            x = SpatialTransformer(localisation, name="transformer")(x)
        x = Features(name="stage1")(self.act(conv(32, 7, name="conv1")(average_pool(x, 2, 2))))
        x = Features(name="stage2")(self.act(conv(48, 5, name="conv2")(max_pool(x, 2, 2))))
        x = max_pool(x, 2, 2)
        features = nn.Dense(256, kernel_init=LECUN, dtype=self.dtype, name="dense1")(x.reshape(x.shape[0], -1))
        return classify(self.act(features), self.num_classes, train=train, dtype=self.dtype)


VARIANTS = {
    "stn_lenet": Variant(
        build=SpatialTransformerLeNet,
        input_shape=INPUT_SHAPE,
        num_classes=10,
        minimum=MINIMUM["valid"],
        summary="Spatial transformer in front of a LeNet-like classifier (after Jaderberg et al. 2015, section 4.1)",
        paper="arXiv:1506.02025",
    )
}
