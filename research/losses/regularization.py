"""Penalties: on parameters, and on pictures that should be smooth. float32 inside.

The recipes decay weights in the optimizer instead (`optimizer.weight_decay`); `l2` is for objectives that are written
as one function.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from research.inputs import Images, Parameters, Penalty, PerExample


def _kernels(path: str, leaf: Any) -> bool:
    return leaf.ndim >= 2


def l2(params: Parameters, *, where: Callable[[str, Any], bool] = _kernels) -> Penalty:
    """Half the sum of squares of the parameters that `where` (path "stage1/conv1/kernel", array) admits; one value.

    Its gradient is the parameter itself, so weight x l2 decays by weight x parameter (Krogh & Hertz 1991). By default
    kernels alone, as recipes do: no biases, no parameters of norms. 0 where none is admitted.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = (("/".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in keys), leaf) for keys, leaf in leaves)
    squares = [jnp.sum(jnp.asarray(leaf, jnp.float32) ** 2) for path, leaf in named if where(path, leaf)]
    return 0.5 * sum(squares, jnp.zeros((), jnp.float32))


def total_variation(images: Images) -> PerExample:
    """Sum of |differences| of neighbouring pixels along both axes, not a mean. Shapes: "b h w c" -> "b".

    The anisotropic form of Rudin, Osher & Fatemi 1992 (doi 10.1016/0167-2789(92)90242-F), the usual one for style
    transfer (Johnson et al. 2016, arXiv 1603.08155, section 3.2).
    """
    pictures = jnp.asarray(images, jnp.float32)
    rows = jnp.sum(jnp.abs(jnp.diff(pictures, axis=1)), axis=(1, 2, 3))
    return rows + jnp.sum(jnp.abs(jnp.diff(pictures, axis=2)), axis=(1, 2, 3))
