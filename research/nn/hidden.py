"""Two hidden dense layers and the head: how networks ended before global average pooling."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.nn.conv import Dtype
from research.nn.layers import LECUN, Activation, classify

DenseLayer = Literal["dense1", "dense2", "head"]


def classify_by_hidden_layers(
    x: Float[Array, "b *space c"],
    num_classes: int,
    *,
    width: int,
    train: bool,
    dropout: float,
    dropout_before: tuple[DenseLayer, ...] = ("dense2", "head"),
    act: Activation = nn.relu,
    kernel_init: Callable[..., Array] = LECUN,
    bias: float = 0.0,
    dtype: Dtype = jnp.float32,
) -> Float[Array, "b outputs"]:
    """Float32 logits of `head` after `dense1` and `dense2`, or the `width` features of these where there is no class.

    To be called inside a network's compact method. The maps are flattened with their channels last; `dropout_before`
    names the layers whose inputs are dropped. `bias` is what the biases of the hidden layers start at.
    """
    x = x.reshape(x.shape[0], -1)
    for name in ("dense1", "dense2"):
        if dropout and name in dropout_before:
            x = nn.Dropout(dropout, deterministic=not train, name=f"{name}_dropout")(x)
        bias_init = nn.initializers.constant(bias)
        x = act(nn.Dense(width, kernel_init=kernel_init, bias_init=bias_init, dtype=dtype, name=name)(x))
    rate = dropout if "head" in dropout_before else 0.0
    return classify(x, num_classes, train=train, dropout=rate, kernel_init=kernel_init, dtype=dtype)
