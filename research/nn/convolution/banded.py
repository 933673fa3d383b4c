"""Convolutions of few channels as one matrix product with a banded matrix, plain JAX.

A product of patches and kernel has as many columns as there are features: with six of them a core is idle most of the
time, and with one channel the patches are many times as large as the image. Here a row of the product is `BLOCK`
neighbouring positions of a map: it sees one stretch of the images' rows, which is little more than that of a single
position, and its matrix is the kernel once for each position, zeros elsewhere. That is more multiplications (twice as
many for a 3x3 window) and several times less time.
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

if TYPE_CHECKING:
    from research.nn.convolution.primitive import Pair

BLOCK = 4  # positions of a row of the product
MOST = 1 << 24  # bytes of the stretches: more do not stay in a cache, and other ways are faster


def stretches(batch: int, out: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...], inputs: int) -> int:
    """Bytes of the product's left side."""
    length = (BLOCK - 1) * strides[1] + window[1]
    return 4 * batch * out[0] * -(-out[1] // BLOCK) * window[0] * length * inputs


def convolution(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c features"],
    *,
    strides: tuple[int, ...],
    padding: "tuple[Pair, ...]",
    out: tuple[int, ...],
) -> Float[Array, "b out_h out_w features"]:
    """The convolution whose maps are of size `out`; padding is not negative."""
    (high, wide), (down, right) = kernel.shape[:2], strides
    inputs, features = kernel.shape[2:]
    blocks, length = -(-out[1] // BLOCK), (BLOCK - 1) * right + wide
    (above, below), (left, after) = padding
    spare = blocks * BLOCK * right - right + wide - (x.shape[2] + left + after)  # what the last block sees beyond
    x = jnp.pad(x, ((0, 0), (above, below), (left, max(after, after + spare)), (0, 0)))
    rows = x.reshape(*x.shape[:2], -1)
    starts = range(0, blocks * BLOCK * right * inputs, BLOCK * right * inputs)
    seen = jnp.stack([rows[:, :, start : start + length * inputs] for start in starts], 2)
    seen = jnp.concatenate([seen[:, i : i + down * (out[0] - 1) + 1 : down] for i in range(high)], -1)
    shifts = (right * n for n in range(BLOCK))
    band = jnp.stack([jnp.pad(kernel, ((0, 0), (n, length - wide - n), (0, 0), (0, 0))) for n in shifts], 3)
    product = jax.lax.dot_general(
        seen.reshape(-1, seen.shape[-1]), band.reshape(seen.shape[-1], BLOCK * features), (((1,), (0,)), ((), ()))
    )
    return product.reshape(x.shape[0], out[0], blocks * BLOCK, features)[:, :, : out[1]]
