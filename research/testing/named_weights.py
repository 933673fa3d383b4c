"""Arrays made from their names: the same numbers for the same name wherever NumPy runs, so that none need be stored.

A reference implementation and ours are given these, and must then compute the same.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np


def array(name: str, shape: Sequence[int], gain: float = 2.0) -> np.ndarray:
    """Float32 of `shape` for a name in PyTorch's style, whose first axis is that of the outputs.

    Kernels: normal with variance `gain` / fan-in (2 suits ReLU; less, deep sums of other activations). `running_var`:
    uniform in [0.5, 1.5]. Norms' `weight`: normal around 1, every other vector around 0, with standard deviation 0.1.
    """
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")))
    if name.endswith("running_var"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    noise = generator.standard_normal(math.prod(shape), np.float32).reshape(shape)
    if len(shape) < 2 or name.endswith("bias"):
        return np.float32(0.1) * noise + np.float32(name.endswith("weight"))
    return noise * np.float32(math.sqrt(gain * shape[0] / math.prod(shape)))


def images(count: int, resolution: int, channels: int = 3) -> np.ndarray:
    """Standard normal noise, float32 "b h w c", always the same."""
    generator = np.random.Generator(np.random.PCG64(resolution))
    return generator.standard_normal((count, resolution, resolution, channels), np.float32)


def signature(sizes: Mapping[str, int]) -> str:
    """A digest (sha256, hex) of names and numbers of elements, in any order."""
    return hashlib.sha256("\n".join(f"{name} {size}" for name, size in sorted(sizes.items())).encode()).hexdigest()
