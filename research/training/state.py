"""The state of a run: one pytree, all that a checkpoint has to hold for the run to go on to the same bits."""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct

from research.training import processes

PyTree = Any


class TrainState(struct.PyTreeNode):
    """Parameters, batch statistics, optimizer state, key, step counter, training statistics, averaged weights."""

    step: Any  # int32 []; like every leaf here not always an array: JAX rebuilds the tree around shapes and specs
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    key: Any  # uint32 [2]; dropout keys are folded from it and the step
    statistics: PyTree  # of the task, since the last log record
    ema: PyTree  # {"params", "batch_stats"}: the running average of the weights; {} where there is none
    # Numbers of the run that its steps take as values (`Resolved.hyperparameters`); the optimizer's are in `opt_state`.
    hyperparameters: PyTree = struct.field(default_factory=dict)

    @property
    def variables(self) -> dict[str, PyTree]:
        """The variables `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats} if self.batch_stats else {"params": self.params}

    @property
    def averaged(self) -> "TrainState":
        """This state with the averaged weights in place of its own."""
        return self.replace(params=self.ema["params"], batch_stats=self.ema["batch_stats"])


def initialiser(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image: jax.ShapeDtypeStruct,
    statistics: PyTree,
    *,
    ema: bool = False,
    hyperparameters: Mapping[str, float] = MappingProxyType({}),
) -> Callable[[jax.Array], TrainState]:
    """A function (key) -> new state; `image`: the shape of one example `"h w c"`, `statistics`: those of the task."""

    def init(key: jax.Array) -> TrainState:
        params_key, dropout_key = jax.random.split(key)
        example = jnp.zeros((1, *image.shape), image.dtype)
        variables = model.init({"params": params_key, "dropout": params_key}, example, train=False)
        weights = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            **weights,
            opt_state=optimizer.init(variables["params"]),
            key=dropout_key,
            statistics=jax.tree.map(jnp.zeros_like, statistics),
            ema=weights if ema else {},
            hyperparameters={name: jnp.float32(number) for name, number in hyperparameters.items()},
        )

    return init


def compile_init(init: Callable[[jax.Array], TrainState]) -> jax.stages.Compiled:
    """`init`, compiled: without optimisation, which takes a third of the time and is enough for what runs once."""
    jitted = jax.jit(init, compiler_options={"xla_backend_optimization_level": 0})
    return jitted.lower(jax.random.PRNGKey(0)).compile()


def shapes(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image: jax.ShapeDtypeStruct,
    statistics: PyTree,
    *,
    ema: bool = False,
) -> TrainState:
    """The shapes of the state that `initialiser` of the same arguments makes: nothing is computed."""
    return jax.eval_shape(initialiser(model, optimizer, image, statistics, ema=ema), jax.random.PRNGKey(0))


def digest(tree: PyTree) -> str:
    """sha256 (hex) over the leaves of `tree` in path order: path, dtype, shape and bytes of each."""
    sha = hashlib.sha256()
    leaves = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    for path, leaf in sorted(leaves, key=lambda item: item[0]):
        array = processes.whole(leaf)
        sha.update(f"{path} {array.dtype} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
