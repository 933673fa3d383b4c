"""oneDNN, the library that PyTorch's convolutions on x86 are: it is linked into jaxlib, and a custom call reaches it.

XLA's CPU backend turns a custom call with the target `__onednn$convolution` or `__onednn$matmul` into a call of the
library, on XLA's own threads. It is no documented interface: a request that the library refuses ends the process. So it
is used only with versions of jaxlib that it was tried with (`backend.has_onednn`), for float32, and never in a program
that leaves this process. Elsewhere plain JAX stands in (`convolution.candidates`).
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_LAST = -1


class Epilogue(NamedTuple):
    """What is done to the result of a convolution, in this order."""

    bias: Float[Array, " features"]
    shortcut: Float[Array, "b *out features"] | None = None  # added
    activation: str | None = None  # the library's name: RELU, RELU6, SWISH


def convolution(
    x: Float[Array, "b *space c"],
    kernel: Float[Array, "*window _ _"],
    *,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int = 1,
    epilogue: Epilogue | None = None,
    exchanged: bool = False,
) -> Float[Array, "b *out _"]:
    """The library's forward convolution, float32, of one to three spatial axes; no padding may be negative.

    The kernel is "*window in_channels features", or with `exchanged` "*window features in_channels".
    """
    rank, window = x.ndim - 2, kernel.shape[:-2]
    inputs, features = (rank + 1, rank) if exchanged else (rank, rank + 1)  # axes of the kernel
    rows = zip(x.shape[1:-1], window, strides, padding, dilation, strict=True)
    out = [(n + low + high - d * (k - 1) - 1) // s + 1 for n, k, s, (low, high), d in rows]
    maps = {"batch_dim": 0, "feature_dim": rank + 1, "spatial_dims": list(range(1, rank + 1))}
    filters = {"input_feature_dim": inputs, "output_feature_dim": features, "spatial_dims": list(range(rank))}
    asked: dict[str, object] = {
        "dims": rank + 2,
        "input": {"dims": rank + 2, "data": maps},
        "kernel": {"dims": rank + 2, "filter": filters},
        "output": {"dims": rank + 2, "data": maps},
        "window": {
            "size": list(window),
            "pad_left": [low for low, _ in padding],
            "pad_right": [high for _, high in padding],
            "strides": list(strides),
            "window_dilations": list(dilation),
        },
        "feature_groups": groups,
    }
    others: list[Array] = []
    if epilogue is not None:
        asked["fusions"] = {
            "ops": [
                "BIAS",
                *(["BINARY_ADD"] if epilogue.shortcut is not None else []),
                *([epilogue.activation] if epilogue.activation else []),
            ]
        }
        others = [epilogue.bias, *([] if epilogue.shortcut is None else [epilogue.shortcut])]
    shape = (x.shape[0], *out, kernel.shape[features])
    return _call("convolution", "onednn_conv_config", asked, shape, x, kernel, *others)


def product(a: Float[Array, "k m"], b: Float[Array, "k n"]) -> Float[Array, "m n"]:
    """The library's product of the transposed `a` with `b`, float32."""
    return _call("matmul", "onednn_matmul_config", {"transpose_a": True}, (a.shape[_LAST], b.shape[_LAST]), a, b)


def _call(name: str, kind: str, asked: dict[str, object], shape: Sequence[int], *operands: Array) -> Array:
    result = jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
    # Version 1 of custom calls: the one whose text reaches the backend as it is written here.
    call = jax.ffi.ffi_call(
        f"__onednn${name}", result, custom_call_api_version=1, legacy_backend_config=json.dumps({kind: asked})
    )
    return call(*operands)
