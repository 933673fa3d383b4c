"""LeNet-5, as printed and as it is read today.

Yann LeCun, Leon Bottou, Yoshua Bengio, Patrick Haffner: "Gradient-Based Learning Applied to Document Recognition",
Proceedings of the IEEE 86(11), 1998, section II.B and figure 2 (layers C1, S2, C3, S4, C5, F6, output), table I (the
connections of C3), appendix A (the squashing function and the initial weights).

`lenet5_1998` is the paper's network with its 60,000 trainable parameters. Its output units are Euclidean radial basis
functions that compare the 84 units of F6 with a fixed 7x12 bitmap per class. The bitmaps are no parameters, and the
logits here are minus the squared distances, so that a softmax over them is the paper's posterior (eq. 9 without its
extra "rubbish" class). Deviations: the paper shows its bitmaps only as a picture (figure 3), so the ten digits were
drawn anew on the same 7x12 grid; any other number of classes gets fixed pseudo-random codes; C5 is a dense layer over
the 5x5 maps of S4, which is the same function at the paper's 32x32 pixels. Multiply-adds count C3's kernel with its
zeros, as it is computed (connections alone: 90,000 fewer).

`lenet5` is the modern reading: plain average pooling, every map of S2 connected to every one of C3, tanh, and a dense
output layer. It starts from LeCun's normal initialisation (variance 1 / fan-in).
"""

import functools
import math
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from research.models import Variant
from research.nn.conv import Conv, Dtype, convolve, per_channel
from research.nn.layers import LECUN, Features, classify, require_resolution
from research.nn.pooling import average_pool
from research.values import Natural

INPUT_SHAPE = (32, 32, 1)
MINIMUM = 16

# LeCun et al. 1998, table I: the maps of S2 that each map of C3 sees; 60 connections, hence 1,500 weights.
C3_INPUTS = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip

# Ten digits on the 7x12 grid of figure 3, # for +1 and . for -1.
DIGITS = """
..###.. ...#... .#####. .#####. .....#. ####### ..####. ####### .#####. .####..
.#...#. ..##... #.....# #.....# ....##. #...... .#....# ......# #.....# #....#.
#.....# .#.#... ......# ......# ...#.#. #...... #...... .....#. #.....# #.....#
#.....# ...#... ......# ......# ..#..#. #...... #...... .....#. #.....# #.....#
#.....# ...#... .....#. ......# .#...#. ######. #.####. ....#.. .#...#. #.....#
#.....# ...#... ....#.. ..####. #....#. ......# ##....# ....#.. ..###.. #....##
#.....# ...#... ...#... ......# ####### ......# #.....# ...#... .#...#. .####.#
#.....# ...#... ..#.... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... .#..... ......# .....#. ......# #.....# ..#.... #.....# ......#
.#...#. ...#... #...... #.....# .....#. #.....# .#....# ..#.... #.....# #....#.
..###.. .#####. ####### .#####. .....#. .#####. ..####. ..#.... .#####. .####..
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
"""


def class_codes(num_classes: int) -> np.ndarray:
    """The fixed codes of the output units, float32 [num_classes, 84] of -1 and +1: the digits' bitmaps for ten classes.

    Any other count has codes drawn from NumPy's frozen generator `RandomState(1998)`: the same on every machine.
    """
    if num_classes != 10:
        return np.random.RandomState(1998).choice(np.array([-1, 1], np.float32), size=(num_classes, 84))
    rows = [row.split() for row in DIGITS.split("\n") if row]
    bitmaps = [[[1.0 if pixel == "#" else -1.0 for pixel in row[digit]] for row in rows] for digit in range(10)]
    return np.array(bitmaps, np.float32).reshape(10, 84)


def scaled_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """1.7159 tanh(2x / 3), which maps +-1 to +-1 (appendix A)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


def uniform_by_fan_in(key: Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32, *, fan_in: int = 0) -> Array:
    """Uniform within +-2.4 / fan-in (appendix A); the fan-in is that of a kernel of this shape unless given."""
    bound = 2.4 / (fan_in or math.prod(shape[:-1]))
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class Subsampling(nn.Module):
    """S2 and S4: the sum of each 2x2 window times a trainable scale plus a trainable bias, one of each per map."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        """Half the resolution, before the squashing function."""
        channels = x.shape[-1]
        scale = self.param("scale", functools.partial(uniform_by_fan_in, fan_in=4), (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        summed = 4 * average_pool(x, 2, 2)
        return summed * per_channel(scale, summed) + per_channel(bias, summed)


class ConnectedConv(nn.Module):
    """C3: a 5x5 convolution in which each output map sees only some input maps (table I).

    The weights, `kernel` [5, 5, 60 connections], are scattered into a 5x5x6x16 kernel: those absent are no parameters.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 6"]) -> Float[Array, "b h2 w2 16"]:
        """The maps of C3, before the squashing function."""
        inputs = np.concatenate(C3_INPUTS)
        outputs = np.repeat(np.arange(len(C3_INPUTS)), [len(maps) for maps in C3_INPUTS])
        weights = self.param("kernel", self._initial, (5, 5, len(inputs)))
        bias = self.param("bias", nn.initializers.zeros, (len(C3_INPUTS),))
        kernel = jnp.zeros((5, 5, x.shape[-1], len(C3_INPUTS)), self.dtype)
        kernel = kernel.at[:, :, inputs, outputs].set(weights.astype(self.dtype))
        y = convolve(x.astype(self.dtype), kernel, padding=0)
        return y + per_channel(bias, y)

    @staticmethod
    def _initial(key: Array, shape: tuple[int, ...]) -> Array:
        fan_in = np.concatenate([np.full(len(maps), 25 * len(maps), np.float32) for maps in C3_INPUTS])
        return jax.random.uniform(key, shape, minval=-1) * jnp.broadcast_to(2.4 / fan_in, shape)


class LeNet5Original(nn.Module):
    """LeNet-5 as in 1998, "b h w c" -> float32 logits "b num_classes" (0: the 84 units of F6); 16 pixels at least."""

    minimum: ClassVar[int] = MINIMUM
    num_classes: Natural = 10
    act: Callable[[Array], Array] = scaled_tanh
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b outputs"]:
        """Logits, or F6; training and evaluation are the same."""
        require_resolution(f"this {type(self).__name__}", images.shape[1:-1], self.minimum)
        conv = functools.partial(Conv, padding=0, use_bias=True, kernel_init=uniform_by_fan_in, dtype=self.dtype)
        dense = functools.partial(nn.Dense, kernel_init=uniform_by_fan_in, dtype=self.dtype)
        x = self.act(conv(6, 5, name="conv1")(images))
        x = Features(name="stage1")(self.act(Subsampling(self.dtype, name="pool1")(x)))
        x = self.act(ConnectedConv(self.dtype, name="conv2")(x))
        x = Features(name="stage2")(self.act(Subsampling(self.dtype, name="pool2")(x)))
        x = self.act(dense(120, name="dense1")(x.reshape(x.shape[0], -1)))
        features = self.act(dense(84, name="dense2")(x)).astype(jnp.float32)
        if self.num_classes == 0:
            return features
        return -jnp.sum(jnp.square(features[:, None, :] - class_codes(self.num_classes)[None, :, :]), axis=-1)


class LeNet5(nn.Module):
    """LeNet-5 as read today, "b h w c" -> float32 logits "b num_classes" (0: 84 features); 16 pixels at least."""

    minimum: ClassVar[int] = MINIMUM
    num_classes: Natural = 10
    act: Callable[[Array], Array] = nn.tanh
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b outputs"]:
        """Logits, or the last features; training and evaluation are the same."""
        require_resolution(f"this {type(self).__name__}", images.shape[1:-1], self.minimum)
        conv = functools.partial(Conv, padding=0, use_bias=True, kernel_init=LECUN, dtype=self.dtype)
        dense = functools.partial(nn.Dense, kernel_init=LECUN, dtype=self.dtype)
        x = Features(name="stage1")(average_pool(self.act(conv(6, 5, name="conv1")(images)), 2, 2))
        x = Features(name="stage2")(average_pool(self.act(conv(16, 5, name="conv2")(x)), 2, 2))
        x = self.act(dense(120, name="dense1")(x.reshape(x.shape[0], -1)))
        features = self.act(dense(84, name="dense2")(x))
        return classify(features, self.num_classes, train=train, dtype=self.dtype)


VARIANTS = {
    "lenet5": Variant(
        build=LeNet5,
        input_shape=INPUT_SHAPE,
        num_classes=10,
        minimum=MINIMUM,
        paper="Proceedings of the IEEE 86(11), 1998",
        summary="LeNet-5 as read today: average pooling, tanh, dense output (after LeCun et al. 1998)",
    ),
    "lenet5_1998": Variant(
        build=LeNet5Original,
        input_shape=INPUT_SHAPE,
        num_classes=10,
        minimum=MINIMUM,
        paper="Proceedings of the IEEE 86(11), 1998",
        summary="LeNet-5 as printed: trainable subsampling, sparse C3, fixed RBF outputs (LeCun et al. 1998)",
    ),
}
