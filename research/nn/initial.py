"""Initial values of weights, or zeros of their shapes while a network is only counted.

Tracing how random numbers are drawn takes as long as tracing a convolution, and a plan counts many networks.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import flax.linen as nn
from jaxtyping import Array

Initializer = Callable[..., Array]

_shapes_only = contextvars.ContextVar("shapes_only", default=False)


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Inside, `values` gives zeros: for tracing of which no value is ever computed."""
    token = _shapes_only.set(True)
    try:
        yield
    finally:
        _shapes_only.reset(token)


def values(init: Initializer) -> Initializer:
    """`init`, for `Module.param`; zeros within `shapes_only`."""
    return nn.initializers.zeros if _shapes_only.get() else init
