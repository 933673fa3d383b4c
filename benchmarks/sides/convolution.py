"""One convolution of given shapes, forward and both gradients: ours, or with `--native` what JAX offers.

The native side imports nothing of ours but the shapes' specification, and sets no flag.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.alternating import Spec, Timer, serve, wall_timer


def ours(spec: Spec) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`research.nn.conv.convolve` of these shapes."""
    from research.nn import conv

    pairs = [tuple(pair) for pair in spec["padding"]]
    given: Any = tuple(low for low, _ in pairs)
    if any(low != high for low, high in pairs):
        reach = tuple(d * (k - 1) + 1 for k, d in zip(spec["window"], spec["dilation"], strict=True))
        given = "SAME"
        assert conv.pads(tuple(spec["space"]), reach, tuple(spec["strides"]), given) == pairs, spec
    fixed = (tuple(spec["strides"]), given, spec["groups"], tuple(spec["dilation"]))
    return lambda x, kernel: conv.convolve(x, kernel, *fixed)


def native(spec: Spec) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`lax.conv_general_dilated` of these shapes."""
    axes = "DHW"[-len(spec["window"]) :]
    return functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=spec["strides"],
        padding=[tuple(pair) for pair in spec["padding"]],
        rhs_dilation=spec["dilation"],
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=spec["groups"],
    )


def prepare(spec: Spec, *, make: Callable[[Spec], Callable[[jax.Array, jax.Array], jax.Array]]) -> tuple[Any, Spec]:
    """A shape and its batch -> timers of the output, of the images' gradient and of the kernel's."""
    function, draw = make(spec), np.random.default_rng(0)
    shape = (spec["batch_size"], *spec["space"], spec["channels"])
    kernel_shape = (*spec["window"], spec["channels"] // spec["groups"], spec["features"])
    x, kernel = (jnp.asarray(draw.standard_normal(size, np.float32)) for size in (shape, kernel_shape))
    out = jax.eval_shape(function, x, kernel)
    y = jnp.asarray(draw.standard_normal(out.shape, np.float32))
    programs = {
        "output": (function, (x, kernel)),
        "images": (lambda kernel, y: jax.vjp(lambda x: function(x, kernel), x)[1](y)[0], (kernel, y)),
        "kernel": (lambda x, y: jax.vjp(lambda kernel: function(x, kernel), kernel)[1](y)[0], (x, y)),
    }
    return {name: _timer(program, arguments) for name, (program, arguments) in programs.items()}, {}


def _timer(program: Callable[..., jax.Array], arguments: tuple[jax.Array, ...]) -> Timer:
    compiled = jax.jit(program).lower(*arguments).compile()
    timer = wall_timer(lambda: compiled(*arguments), jax.block_until_ready)
    timer(1)
    return timer


if __name__ == "__main__":
    serve(functools.partial(prepare, make=native if "--native" in sys.argv[1:] else ours))
