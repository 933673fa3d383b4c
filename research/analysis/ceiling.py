"""What this machine can do at best: its rate of multiplying matrices and of moving memory, measured by XLA itself.

Both are programs to be timed beside what is held against them, in turns, as a shared machine is not always as fast.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

# Sides of the square matrices: large enough that a core spends its time multiplying, and a tenth of a second a call.
SIDES = {"cpu": 2048, "gpu": 8192, "tpu": 8192}
ELEMENTS = 2**25  # of each array that is streamed: 128 MiB in float32, more than caches hold


@dataclass(frozen=True)
class Program:
    """Something to time: `call` gives arrays to wait for, and does `amount` of work (FLOPs or bytes) each time."""

    call: Callable[[], Any]
    amount: float

    def seconds(self, calls: int = 1) -> float:
        """Wall time of one call, over `calls` of them one after the other."""
        began = time.perf_counter()
        for _ in range(calls):
            made = self.call()
        jax.block_until_ready(made)
        return (time.perf_counter() - began) / calls


def matrix_product(dtype: Any = jnp.float32, side: int | None = None) -> Program:
    """The product of two square matrices of `dtype`, 2 `side`^3 FLOPs; compiled, and run once."""
    side = side or SIDES.get(jax.default_backend(), SIDES["cpu"])
    keys = jax.random.split(jax.random.key(0))
    left, right = (jax.random.normal(key, (side, side), dtype) for key in keys)
    return _warm(jnp.matmul, (left, right), 2.0 * side**3)


def stream(elements: int = ELEMENTS) -> Program:
    """McCalpin's triad, a = b + 3 c over float32 arrays: counted as two read and one written, 12 bytes an element."""
    first, second = jnp.ones(elements), jnp.ones(elements)
    return _warm(lambda b, c: b + 3.0 * c, (first, second), 12.0 * elements)


def _warm(function: Callable[..., jax.Array], arguments: tuple[jax.Array, ...], amount: float) -> Program:
    compiled = jax.jit(function).lower(*arguments).compile()
    program = Program(lambda: compiled(*arguments), amount)
    program.seconds()
    return program
