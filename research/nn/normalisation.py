"""Normalisation without parameters: local response normalisation across channels."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def local_response_norm(
    x: Float[Array, "*batch c"], size: int = 5, alpha: float = 1e-4, beta: float = 0.75, bias: float = 2.0
) -> Float[Array, "*batch c"]:
    """Each value over (bias + alpha times the sum of squares of the `size` channels around it) ** beta.

    Krizhevsky, Sutskever, Hinton 2012, section 3.3, whose n, alpha, beta and k are the defaults; channels that do not
    exist count as zeros, and an even window has its odd channel before. `alpha` multiplies the sum, as printed; Caffe
    and PyTorch divide theirs by `size` first. Computed in float32, given back in the type of `x`.
    """
    exact = x.astype(jnp.float32)
    around = [(0, 0, 0)] * (x.ndim - 1) + [(size // 2, (size - 1) // 2, 0)]
    squares = jax.lax.pad(jnp.square(exact), jnp.float32(0), around)
    # Shifted sums: the gradient of a windowed reduction is several times slower on CPU.
    total = sum(jax.lax.slice_in_dim(squares, i, i + x.shape[-1], axis=-1) for i in range(size))
    return (exact * (bias + alpha * total) ** -beta).astype(x.dtype)
