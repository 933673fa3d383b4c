"""What the layers of a network give, by name, of any network and without a change to it.

    from research.analysis import features
    model = models.create("vgg16")
    found = features.of_layers(model, variables, images, ["stage1", "stage3"])  # name -> maps
    losses.content(found, features.of_layers(model, variables, others, found))

Pure functions of variables and images, so that gradients flow through what they give. A layer that is called more than
once means its first call.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from research.errors import unknown

PyTree = Any


def layers(model: nn.Module, variables: PyTree, images: Float[Array, "b *space c"]) -> dict[str, tuple[int, ...]]:
    """Path of every module whose output is maps "b *space c" -> shape of its output, in the order they run.

    `stage1`, `stage2` and so on are the outputs of the stages.
    """
    found: dict[str, tuple[int, ...]] = {}

    def note(path: str, output: Any) -> Any:
        if path and getattr(output, "ndim", 0) == images.ndim:
            found.setdefault(path, tuple(output.shape))
        return output

    jax.eval_shape(lambda variables, images: _visited(model, variables, images, note), variables, images)
    return found


def of_layers(
    model: nn.Module, variables: PyTree, images: Float[Array, "b *space c"], names: Iterable[str]
) -> dict[str, Float[Array, "b *maps"]]:
    """Layer -> its maps, of these layers, as the network in evaluation computes them.

    Raises `UserError`: an unknown layer (nearest named), or one whose output is no maps.
    """
    known = layers(model, variables, images)
    for name in (names := list(names)):
        if name not in known:
            raise unknown("layer with maps", name, known)
    found: dict[str, Array] = {}

    def note(path: str, output: Any) -> Any:
        if path in names:
            found.setdefault(path, output)
        return output

    _visited(model, variables, images, note)
    return {name: found[name] for name in names}


def changed(
    model: nn.Module,
    variables: PyTree,
    images: Float[Array, "b *space c"],
    layer: str,
    change: Callable[[Array], Array],
) -> Float[Array, "_ outputs"]:
    """The network's outputs where what `layer` gives is replaced by `change` of it.

    Raises `UserError`: an unknown layer (nearest named), or one whose output is no maps.
    """
    if layer not in (known := layers(model, variables, images)):
        raise unknown("layer with maps", layer, known)
    met: list[str] = []

    def swap(path: str, output: Any) -> Any:
        if path != layer or met:
            return output
        met.append(path)
        return change(output)

    return cast(Array, _visited(model, variables, images, swap))


def _visited(model: nn.Module, variables: PyTree, images: Array, visit: Callable[[str, Any], Any]) -> Any:
    """What the network gives in evaluation where every module's output is what `visit` makes of it."""

    def visited(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*arguments, **keywords)
        return visit("/".join(context.module.path), output) if context.method_name == "__call__" else output

    with nn.intercept_methods(visited):
        return model.apply(variables, images, train=False)
