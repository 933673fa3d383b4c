"""Exact cost of any Flax module: parameters, multiply-adds, activations and receptive field, per layer.

Only shapes are traced: no array is made and nothing is compiled. Conventions:
- multiply-adds: of convolutions, dense layers and products of two activations (attention), one multiply-add = 1, every
  kernel tap counted where it falls on padding too (He et al. 2015; Howard et al. 2017; Tan and Le 2019). No bias,
  normalisation, activation function, pooling or resampling. Proportional to the batch size of the input shape.
- activations: elements of the outputs of convolutions and dense layers (Radosavovic et al. 2020; Dollar et al. 2021),
  but for those of gates (modules with `is_gate = True`: squeeze-and-excitation), which weigh maps and are none: so
  EfficientNet-B0 has the 6,738,696 of the literature.
- layers are told by data flow, not by class: a product with something made from variables is a layer of the module
  that owns them; other parameters belong to the layer of their module, or have a row of their own.
Dead code (an auxiliary head nobody reads) has parameters and no cost.
"""

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from research.nn import initial
from research.scaling.events import Path, Value
from research.scaling.field import Field
from research.scaling.layers import Layer, Leaf, assemble
from research.scaling.trace import MARK, Walker

NORMS = (nn.BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.InstanceNorm)
WEIGHT_NORMS = (nn.SpectralNorm, nn.WeightNorm)


@dataclass(frozen=True)
class Cost:
    """Exact cost of one forward pass on an input of `input_shape` ("b *space c"); `layers` in execution order.

    `output_shape`: of the module's output; None where that is not one array.
    """

    input_shape: tuple[int, ...]
    params: int
    batch_stats: int
    layers: tuple[Layer, ...]
    output_shape: tuple[int, ...] | None = None

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return sum(layer.macs for layer in self.layers)

    @property
    def activations(self) -> int:
        """Elements of the outputs of convolutions and dense layers, gates left out."""
        return sum(layer.activations for layer in self.layers)

    @property
    def conventions(self) -> dict[str, int]:
        """Every published way to state this cost, by name; never compare numbers of different conventions."""
        normalised = sum(layer.elements for layer in self.layers if layer.kind == "norm")
        pooled = sum(layer.elements for layer in self.layers if layer.kind == "pool")
        unpadded = sum(layer.unpadded_macs for layer in self.layers)
        return {
            "multiply_adds": self.macs,
            "flops": 2 * self.macs,
            "multiply_adds_fvcore": self.macs + normalised,
            "multiply_adds_xla": unpadded,
            "flops_xla": 2 * unpadded,
            "params": self.params,
            "params_keras": self.params + self.batch_stats,
            "activations": self.activations,
            "activations_with_pooling": self.activations + pooled,
            "activations_with_gates": self.activations + sum(layer.gates for layer in self.layers),
        }


def count(model: nn.Module, input_shape: Iterable[int], **call_kwargs: Any) -> Cost:
    """Cost of `model` on a float32 input of `input_shape` ("b *space c", the batch included), by tracing shapes only.

    `call_kwargs` go to the module's call; `train=False` is added if the call takes `train` and none is given.
    Raises `UserError` where a product cannot be counted exactly (in a `while` loop), and whatever the module raises.
    """
    shape = tuple(int(n) for n in input_shape)
    if "train" in inspect.signature(type(model).__call__).parameters:
        call_kwargs.setdefault("train", False)
    with initial.shapes_only():
        leaves, jaxpr, outputs, called = _trace(model, shape, call_kwargs)
    parents = {path[:n] for path in called for n in range(len(path))}
    norms = {path: _words(kind.__name__) for path, kind in called.items() if _is_norm(kind) and path not in parents}
    origin = Field.of_input(shape)
    walker = Walker(origin, frozenset(called), norms)
    arguments = [Value(leaves=frozenset([i])) for i in range(len(leaves))] + [Value(origin)]
    values = [*arguments, *[Value()] * (len(jaxpr.jaxpr.invars) - len(arguments))]
    _, events = walker.walk(jaxpr, values, [i < outputs for i in range(len(jaxpr.jaxpr.outvars))])
    total = {c: sum(leaf.size for leaf in leaves if leaf.collection == c) for c in ("params", "batch_stats")}
    gates = {path for path, kind in called.items() if getattr(kind, "is_gate", False)}
    layers = tuple(_marked(layer, gates) for layer in assemble(events, leaves, type(model).__name__))
    given = jaxpr.out_avals[0].shape if outputs == 1 else None
    return Cost(shape, total["params"], total["batch_stats"], layers, given)


def _marked(layer: Layer, gates: set[Path]) -> Layer:
    """The layer, marked where it is inside one of the modules that are gates."""
    path = tuple(layer.path.split("/"))
    inside = any(path[:depth] in gates for depth in range(len(path) + 1)) if gates else False
    return replace(layer, is_gate=True) if inside else layer


def _trace(
    model: nn.Module, shape: tuple[int, ...], call_kwargs: dict[str, Any]
) -> tuple[list[Leaf], Any, int, dict[Path, type]]:
    """Variables, jaxpr of (variables, images, key), how many of its outputs are the model's, and modules called."""
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    key = jax.eval_shape(jax.random.key, 0)
    variables = nn.meta.unbox(jax.eval_shape(lambda k, x: model.init(k, x, **call_kwargs), key, images))
    mutable = [collection for collection in variables if collection != "params"]
    called: dict[Path, type] = {}
    count_outputs = 0

    def mark(call: Callable[..., Any], arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        outputs = call(*arguments, **keywords)
        if context.method_name != "__call__":
            return outputs
        path = context.module.path
        called[path] = type(context.module)
        name = MARK + "/".join(path)
        return jax.tree.map(lambda leaf: checkpoint_name(leaf, name) if isinstance(leaf, jax.Array) else leaf, outputs)

    def apply(variables: Any, images: Any, key: Any) -> Any:
        nonlocal count_outputs
        with nn.intercept_methods(mark):
            outputs, state = model.apply(
                variables, images, rngs={"params": key, "dropout": key}, mutable=mutable, **call_kwargs
            )
        count_outputs = len(jax.tree.leaves(outputs))
        return outputs, state

    jaxpr = jax.make_jaxpr(apply)(variables, images, key)
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    names = [tuple(str(getattr(part, "key", part)) for part in path) for path, _ in flat]
    leaves = [Leaf(name[0], name[1:], tuple(a.shape)) for name, (_, a) in zip(names, flat, strict=True)]
    return leaves, jaxpr, count_outputs, called


def _is_norm(kind: type) -> bool:
    """Whether a class normalises activations: a class of Flax's, or one of the user's named so."""
    return issubclass(kind, NORMS) or (kind.__name__.endswith("Norm") and not issubclass(kind, WEIGHT_NORMS))


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
