"""Gram matrices: which channels of a layer's maps are large together."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from research.inputs import AnyArray


def gram_matrix(maps: Float[AnyArray, "b h w c"]) -> Float[Array, "b c c"]:
    """Sum over places of the products of every two channels, float32; symmetric, no negative eigenvalue. Not divided.

    Gatys et al. 2015 (arXiv 1508.06576, eq. 3).
    """
    flat = jnp.asarray(maps, jnp.float32).reshape(maps.shape[0], -1, maps.shape[-1])
    return jnp.einsum("bni,bnj->bij", flat, flat, precision="highest")
