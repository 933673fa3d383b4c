"""What a probe looks at: a network in a state, and some labelled images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import flax.linen as nn
import jax
from jaxtyping import Array, Float

PyTree = Any
PerExample = Callable[[Array], Array]  # outputs of the network -> float32 "b"


@dataclass(frozen=True)
class Subject:
    """A network with its variables, images "b *space c", and what their labels make of its outputs.

    `loss` is that of training, `error` the share that is wrong (0 or 1), each of every example.
    """

    model: nn.Module
    variables: PyTree
    images: Float[Array, "b *space c"]
    loss: PerExample
    error: PerExample

    def in_training(self, variables: PyTree, key: jax.Array) -> Array:
        """Outputs with the statistics of these images, and the draws of `key`."""
        rngs, mutable = {"dropout": key}, ["batch_stats", "intermediates"]
        outputs, _ = self.model.apply(variables, self.images, train=True, rngs=rngs, mutable=mutable)
        return cast(Array, outputs)

    def modules(self) -> list[str]:
        """Paths of the modules that are called, in the order in which they are done."""
        order: dict[str, None] = {}

        def note(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
            output = call(*arguments, **keywords)
            order.setdefault("/".join(context.module.path))
            return output

        with nn.intercept_methods(note):
            jax.eval_shape(self.in_evaluation)
        return list(order)

    def in_evaluation(self) -> Array:
        """Outputs with the statistics kept in training."""
        return cast(Array, self.model.apply(self.variables, self.images, train=False))
