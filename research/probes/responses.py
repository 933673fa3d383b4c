"""How strongly each layer responds."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.probes._subject import Subject


def response_deviations(subject: Subject) -> dict[str, jax.Array]:
    """Standard deviation of each layer's response, float32 [] by the layer's path, in the order they run.

    A response is what a norm gives, before activation and addition (He et al. 2015, figure 7), with the statistics of
    these images; of networks without norms, what a convolution or dense layer gives.
    """
    after: dict[str, dict[str, jax.Array]] = {"norm": {}, "layer": {}}

    def note(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*arguments, **keywords)
        module = context.module
        if context.method_name == "__call__" and isinstance(output, jax.Array) and output.ndim > 1:
            own = module.variables.get("params", {})
            kind = "norm" if type(module).__name__.endswith("Norm") else "layer" if "kernel" in own else ""
            if kind:
                after[kind]["/".join(module.path)] = jnp.std(output.astype(jnp.float32))
        return output

    with nn.intercept_methods(note):
        subject.in_training(subject.variables, jax.random.key(0))
    return after["norm"] or after["layer"]
