"""The gradient of what has none: a choice is passed through as if it had not been made."""

import jax
from jaxtyping import Array, Float


def straight_through(encodings: Float[Array, "..."], codes: Float[Array, "..."]) -> Float[Array, "..."]:
    """The codes, whose gradient goes to the encodings as it is (Bengio et al. 2013, arXiv 1308.3432). One shape."""
    return encodings + jax.lax.stop_gradient(codes - encodings)
