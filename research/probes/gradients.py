"""How much of the gradient each layer gets."""

from typing import Any

import jax
import jax.numpy as jnp

from research.probes._subject import Subject


def gradient_norms(subject: Subject) -> dict[str, jax.Array]:
    """2-norm of the gradient of the mean training loss for each layer's kernel, float32 [] by the layer's path.

    In training, with the statistics of these images; in the order in which layers run.
    """

    def loss(params: Any) -> jax.Array:
        outputs = subject.in_training({**subject.variables, "params": params}, jax.random.key(0))
        return jnp.mean(subject.loss(outputs))

    gradients = jax.grad(loss)(subject.variables["params"])
    leaves = jax.tree_util.tree_leaves_with_path(gradients)
    kernels = {"/".join(str(part.key) for part in path[:-1]): leaf for path, leaf in leaves if leaf.ndim >= 2}
    places = {name: place for place, name in enumerate(subject.modules())}
    order = sorted(kernels, key=lambda name: places.get(name, len(places)))
    return {name: jnp.linalg.norm(kernels[name].ravel()) for name in order}
