"""What must hold of every network, as functions of any Flax module; each raises `AssertionError` saying what broke.

    from research.testing import model_laws
    subject = model_laws.Subject(MyNet(num_classes=10), (32, 32, 3))
    model_laws.check(subject)                                  # every law
    model_laws.gradient_reaches_every_parameter(subject)       # one of them

`SHAPE_LAWS` only trace shapes, so that they are cheap for a network of any size. `NUMERIC_LAWS` compile it: give them a
small form. Variables are made from shapes with NumPy, since compiling `init` can cost more than a training step, and
they are perturbed: biases, norm scales and running statistics are away from the 0 and 1 they start at.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from research.nn import initial

BATCH = 3
# The programs here run once, on tiny inputs: compiling is what they cost, so the compiler is asked to try less hard.
QUICK = {"xla_backend_optimization_level": 0}


@dataclass
class Subject:
    """A module and the shape of one example (*space, channels); what several laws need is computed once."""

    model: nn.Module
    input_shape: tuple[int, ...]
    seed: int = 0

    @cached_property
    def initial(self) -> tuple[jax.ShapeDtypeStruct, dict[str, Any]]:
        """Shapes of (outputs, variables) at initialisation."""
        return initial_shapes(self.model, self.input_shape)

    @cached_property
    def variables(self) -> dict[str, Any]:
        """Perturbed variables."""
        return fill(self.initial[1], self.seed)

    @cached_property
    def images(self) -> jax.Array:
        """A batch of standard normal noise, float32."""
        rng = np.random.default_rng(self.seed + 1)
        return jnp.asarray(rng.standard_normal((BATCH, *self.input_shape)), jnp.float32)

    @cached_property
    def evaluate(self) -> Callable[..., tuple[jax.Array, Any]]:
        """(variables, images) -> (outputs, batch statistics afterwards) with `train=False`, compiled."""
        return jax.jit(lambda v, x: apply(self.model, v, x, train=False), compiler_options=QUICK)

    @cached_property
    def evaluated(self) -> tuple[jax.Array, Any]:
        """What `evaluate` gives for `images`."""
        return self.evaluate(self.variables, self.images)


def initial_shapes(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[jax.ShapeDtypeStruct, dict[str, Any]]:
    """Shapes of (outputs, variables) of `model.init_with_output` for a batch; only the stream `params` is given."""
    images = jax.ShapeDtypeStruct((BATCH, *input_shape), jnp.float32)
    with initial.shapes_only():
        return jax.eval_shape(lambda x: model.init_with_output({"params": jax.random.key(0)}, x, train=False), images)


def apply(model: nn.Module, variables: Any, images: Any, *, train: bool) -> tuple[jax.Array, Any]:
    """(outputs, batch statistics afterwards); only the stream `dropout` is given."""
    rngs = {"dropout": jax.random.key(1)}
    outputs, changed = model.apply(variables, images, train=train, mutable=["batch_stats"], rngs=rngs)
    return outputs, changed.get("batch_stats", {})


def paths(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping as one with keys such as `stage2_block1/conv1/kernel`."""
    return flatten_dict(tree, sep="/")


def fill(shapes: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
    """Arrays for a tree of shapes, without compiling anything; the same for the same seed.

    Rank 2 and more: normal with variance 2 / fan-in. `var`: uniform in [0.5, 1.5]. `scale`: normal around 1, other
    vectors around 0, with standard deviation 0.1.
    """
    rng = np.random.default_rng(seed)

    def values(path: str, leaf: Any) -> jax.Array:
        kind = path.rsplit("/", 1)[-1]
        if kind == "var":
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
        noise = rng.standard_normal(leaf.shape, np.float32)
        if leaf.ndim >= 2:
            return jnp.asarray(noise * np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.dtype)
        return jnp.asarray(0.1 * noise + (kind == "scale"), leaf.dtype)

    return unflatten_dict({path: values(path, leaf) for path, leaf in sorted(paths(shapes).items())}, sep="/")


def train_has_no_default(subject: Subject) -> None:
    """`__call__(self, images, *, train)`: whoever calls the network says whether it trains."""
    train = inspect.signature(type(subject.model).__call__).parameters.get("train")
    assert train is not None, "__call__ takes no `train`"
    assert train.kind is train.KEYWORD_ONLY, "`train` is not keyword-only"
    assert train.default is train.empty, f"`train` is {train.default} by default"


def outputs_are_float32_logits(subject: Subject) -> None:
    """Outputs are float32 "b num_classes", in evaluation and in training, in bfloat16 too."""
    wanted = (BATCH, getattr(subject.model, "num_classes", None))
    evaluated, variables = subject.initial
    images = jax.ShapeDtypeStruct((BATCH, *subject.input_shape), jnp.float32)
    half = subject.model.clone(dtype=jnp.bfloat16)
    trained, _ = jax.eval_shape(lambda v, x: apply(half, v, x, train=True), variables, images)
    for mode, outputs in (("evaluation", evaluated), ("bfloat16 training", trained)):
        found = f"{mode} gives {outputs.dtype}{list(outputs.shape)}; expected float32{list(wanted)}"
        assert (outputs.shape, outputs.dtype) == (wanted, jnp.float32), found


def parameters_are_float32(subject: Subject) -> None:
    """Collections are `params` and `batch_stats` only, and every array in them is float32."""
    variables = subject.initial[1]
    assert variables.keys() <= {"params", "batch_stats"}, f"collections: {sorted(variables)}"
    wrong = [f"{path} is {leaf.dtype}" for path, leaf in paths(variables).items() if leaf.dtype != jnp.float32]
    assert not wrong, "; ".join(wrong)


def parameters_have_explicit_names(subject: Subject) -> None:
    """No name was made up by Flax (`Conv_0`): checkpoints, weight import and reports read names, so they are chosen."""
    made_up = [path for path in paths(subject.initial[1]) if re.search(r"(^|/)[A-Z]\w*_\d+(/|$)", path)]
    assert not made_up, f"names made up by Flax: {', '.join(made_up)}"


def no_classes_gives_features(subject: Subject) -> None:
    """With `num_classes=0` the outputs are float32 features "b f", and no parameter is new."""
    features, variables = initial_shapes(subject.model.clone(num_classes=0), subject.input_shape)
    found = f"num_classes=0 gives {features.dtype}{list(features.shape)}; expected float32[{BATCH}, features]"
    assert (len(features.shape), features.shape[:1], features.dtype) == (2, (BATCH,), jnp.float32), found
    with_head, without = paths(subject.initial[1]), paths(variables)
    new = [path for path, leaf in without.items() if path not in with_head or with_head[path].shape != leaf.shape]
    assert not new, f"num_classes=0 changes {', '.join(new)}"


def gradient_reaches_every_parameter(subject: Subject, threshold: float = 1e-5) -> None:
    """The gradient of a random projection of the outputs is finite, and zero for no parameter.

    With `train=False`, since a bias before batch norm has none in training. Each array's root mean square must exceed
    `threshold` times the median over the kernels: rounding noise is some 1e-7 of it.
    """
    outputs, statistics = subject.evaluated[0], subject.variables.get("batch_stats", {})
    direction = jnp.asarray(np.random.default_rng(subject.seed + 2).standard_normal(outputs.shape), jnp.float32)

    def projection(params: Any, statistics: Any, images: Any) -> jax.Array:
        variables = {"params": params} | ({"batch_stats": statistics} if statistics else {})
        return jnp.sum(direction * apply(subject.model, variables, images, train=False)[0])

    gradient = jax.jit(jax.grad(projection), compiler_options=QUICK)
    flat = paths(jax.device_get(gradient(subject.variables["params"], statistics, subject.images)))
    size = {path: float(np.sqrt(np.mean(np.square(np.float64(g))))) for path, g in flat.items()}
    reference = float(np.median([size[path] for path, g in flat.items() if g.ndim >= 2]))
    lost = [f"{path} ({s:.1e})" for path, s in size.items() if not np.isfinite(s) or s <= threshold * reference]
    assert not lost, f"no gradient, or not a finite one (kernels: {reference:.1e}): {', '.join(lost)}"


def evaluation_is_batch_independent(subject: Subject, tolerance: float = 1e-5) -> None:
    """Each example alone has the outputs it has in a batch, within `tolerance` of the largest output.

    Not to the bit: another batch size is another program, whose sums run in another order. A network that magnifies
    rounding (a spatial transformer moves the points where it samples) may differ by four times what it makes of
    rounding errors of its images.
    """
    together = np.asarray(subject.evaluated[0])
    scale = np.abs(together).max()
    signs = np.random.default_rng(subject.seed + 2).choice([-1, 1], subject.images.shape)
    rounded = (subject.images * (1 + signs * np.finfo(np.float32).eps)).astype(jnp.float32)
    magnified = np.abs(np.asarray(subject.evaluate(subject.variables, rounded)[0]) - together).max() / scale
    for row in range(BATCH):
        alone = np.asarray(subject.evaluate(subject.variables, subject.images[row : row + 1])[0])
        off = np.abs(alone[0] - together[row]).max() / scale
        assert off <= max(tolerance, 4 * magnified), f"example {row} alone is off by {off:.1e} of the largest output"


def only_training_changes_statistics(subject: Subject) -> None:
    """Evaluation leaves every running statistic as it is, to the bit; training changes every one and no other array."""
    before = paths(subject.variables.get("batch_stats", {}))
    evaluated = paths(subject.evaluated[1])
    moved = [path for path, value in evaluated.items() if not np.array_equal(value, before[path])]
    assert not moved, f"evaluation changes {', '.join(moved)}"
    train = jax.jit(lambda v, x: apply(subject.model, v, x, train=True), compiler_options=QUICK)
    outputs, statistics = train(subject.variables, subject.images)
    assert np.isfinite(outputs).all(), "training outputs are not finite"
    after = paths(statistics)
    assert after.keys() == before.keys(), "training makes or drops statistics"
    still = [path for path, value in after.items() if np.array_equal(value, before[path])]
    assert not still, f"training does not change {', '.join(still)}"


def bfloat16_is_close(subject: Subject, tolerance: float = 0.04) -> None:
    """Outputs computed in bfloat16 differ from float32's by at most `tolerance` of their norm.

    bfloat16 has 8 bits: 0.4% per rounding, which adds up over some tens of layers of a small form.
    """
    half = subject.model.clone(dtype=jnp.bfloat16)
    evaluate = jax.jit(lambda v, x: apply(half, v, x, train=False)[0], compiler_options=QUICK)
    exact = np.asarray(subject.evaluated[0])
    off = np.linalg.norm(np.asarray(evaluate(subject.variables, subject.images)) - exact) / np.linalg.norm(exact)
    assert off <= tolerance, f"bfloat16 is off by {off:.3f} of the outputs' norm"
    assert off > 0, "bfloat16 gives the bits of float32: `dtype` is not used"


Law = Callable[[Subject], None]
SHAPE_LAWS: tuple[Law, ...] = (
    train_has_no_default,
    outputs_are_float32_logits,
    parameters_are_float32,
    parameters_have_explicit_names,
    no_classes_gives_features,
)
NUMERIC_LAWS: tuple[Law, ...] = (
    gradient_reaches_every_parameter,
    evaluation_is_batch_independent,
    only_training_changes_statistics,
    bfloat16_is_close,
)


def check(subject: Subject) -> None:
    """Every law, the cheap ones first. Raises `AssertionError`."""
    for law in (*SHAPE_LAWS, *NUMERIC_LAWS):
        law(subject)
