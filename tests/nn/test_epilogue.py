"""What follows a convolution in evaluation is computed with it: the same values, wherever that can be done."""

from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import backend, models
from research.nn.conv import Conv, convolve
from research.nn.convolution import epilogue
from research.nn.convolution.epilogue import ACTIVATIONS, joined
from research.nn.sums import at_positions
from research.testing import model_laws

# Sums of n products of numbers near one, in another order: errors grow like sqrt(n) units in the last place.
ROUNDING = 2e-5


def joints(function: Any, *arguments: Any) -> list[Any]:
    """The convolutions with an epilogue that are in a function: (steps, activation)."""
    equations = jax.make_jaxpr(joined(function))(*arguments).jaxpr.eqns
    found = [e.params for e in equations if e.primitive.name == "convolution_with_epilogue"]
    return [(params["steps"], params["activation"]) for params in found]


def close(ours: Any, theirs: Any) -> None:
    """Equal up to `ROUNDING` of the largest number."""
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=ROUNDING * max(1e-3, float(jnp.abs(other).max())))


def written(x: jax.Array, kernel: jax.Array, operands: Any, steps: Any, activation: str | None, **fields: Any) -> Any:
    """A convolution and what follows it, in the ways in which layers write it."""
    y = convolve(x, kernel, **fields)
    for number, (step, operand) in enumerate(zip(steps, operands, strict=True)):
        wide = (1,) * (y.ndim - 1) + (-1,)
        other = (
            operand if step == "shortcut" else at_positions(operand, y.shape) if number % 2 else operand.reshape(wide)
        )
        y = y - other if step == "sub" else y * other if step == "mul" else other + y if number % 3 else y + other
    return y if activation is None else ACTIVATIONS[activation](y)


@st.composite
def chains(draw: st.DrawFn) -> tuple[Any, ...]:
    """The shape of images, a kernel, fields of `convolve`, steps and an activation."""
    rank, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2]))
    window = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    space = tuple(draw(st.integers(3, 6)) for _ in range(rank))
    channels, features = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    steps = tuple(draw(st.lists(st.sampled_from(["sub", "add", "mul"]), max_size=4)))
    steps += ("shortcut",) * draw(st.integers(0, 1))
    fields = {"stride": draw(st.integers(1, 2)), "groups": groups}
    activation = draw(st.sampled_from([None, *ACTIVATIONS]))
    return (2, *space, channels), (*window, channels // groups, features), fields, steps, activation


@hypothesis.settings(max_examples=25)
@hypothesis.given(drawn=chains(), worth=st.sampled_from([0, 10**9]))
def test_any_epilogue_is_found_whole_and_computed(drawn: Any, worth: int) -> None:
    """Values, derivatives and batches of it are those of the function as it is written."""
    images, window, fields, steps, activation = drawn
    numbers = np.random.default_rng(0)
    x, kernel = (jnp.asarray(numbers.normal(size=shape), jnp.float32) for shape in (images, window))
    out = jax.eval_shape(lambda x, kernel: convolve(x, kernel, **fields), x, kernel).shape
    shapes = [out if step == "shortcut" else out[-1:] for step in steps]
    operands = [jnp.asarray(numbers.normal(size=shape), jnp.float32) for shape in shapes]

    def function(x: Any, kernel: Any, operands: Any) -> Any:
        return written(x, kernel, operands, steps, activation, **fields)

    expected = [(steps, activation)] if steps or activation else []
    assert joints(function, x, kernel, operands) == expected
    with pytest.MonkeyPatch.context() as patch, backend.unkept():
        patch.setattr(epilogue, "WORTH", worth)
        close(jax.jit(joined(function))(x, kernel, operands), function(x, kernel, operands))
        tangent = lambda f: jax.jvp(lambda x: f(x, kernel, operands), (x,), (jnp.cos(x),))  # noqa: E731
        close(jax.jit(lambda: tangent(joined(function)))(), tangent(function))
        many = lambda f: jax.vmap(f, in_axes=(0, None, None))(jnp.stack([x, x + 1]), kernel, operands)  # noqa: E731
        close(jax.jit(lambda: many(joined(function)))(), many(function))


# What is not part of an epilogue, each beside one convolution without a step.
def _twice(x: Any, kernel: Any, b: Any) -> Any:
    y = convolve(x, kernel)
    return jax.nn.relu(y) + y


def _also_returned(x: Any, kernel: Any, b: Any) -> Any:
    y = convolve(x, kernel)
    return jax.nn.relu(y), y


def _scalar(x: Any, kernel: Any, b: Any) -> Any:
    return convolve(x, kernel) * 2.0


def _for_each_image(x: Any, kernel: Any, b: Any) -> Any:
    return convolve(x, kernel) * jnp.sum(x, (1, 2), keepdims=True)


def _from_the_other_side(x: Any, kernel: Any, b: Any) -> Any:
    return b.reshape(1, 1, 1, 3) - convolve(x, kernel)


def _another_activation(x: Any, kernel: Any, b: Any) -> Any:
    return jax.nn.gelu(convolve(x, kernel))


def _half(x: Any, kernel: Any, b: Any) -> Any:
    return jax.nn.relu(convolve(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)))


@pytest.mark.parametrize(
    "function",
    [_twice, _also_returned, _scalar, _for_each_image, _from_the_other_side, _another_activation, _half],
)
def test_what_is_no_epilogue_is_left_alone(function: Any) -> None:
    x, kernel, b = jnp.ones((2, 5, 5, 3)), jnp.ones((3, 3, 3, 3)) / 27, jnp.arange(3.0)
    assert joints(function, x, kernel, b) == []
    close(jax.jit(joined(function))(x, kernel, b), function(x, kernel, b))


def test_of_two_convolutions_that_are_added_one_takes_the_sum() -> None:
    """The other ends in it: a block whose shortcut is a projection."""

    def block(x: Any, kernel: Any, b: Any) -> Any:
        b = b.reshape(1, 1, 1, 3)
        return jax.nn.relu((convolve(x, kernel) + b) + (convolve(x, 2 * kernel) * b))

    x, kernel, b = jnp.ones((2, 5, 5, 3)), jnp.ones((3, 3, 3, 3)) / 27, jnp.arange(3.0)
    assert joints(block, x, kernel, b) == [(("mul",), None), (("add", "shortcut"), "RELU")]
    with backend.unkept():
        close(jax.jit(joined(block))(x, kernel, b), block(x, kernel, b))


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0", "resnet8", "googlenet_bn", "vgg11"])
def test_networks_evaluate_to_the_same_outputs(name: str) -> None:
    """Every convolution of these has something after it."""
    model = models.create(name, num_classes=10)
    _, shapes = model_laws.initial_shapes(model, (64, 64, 3))
    variables = model_laws.fill(shapes)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 64, 64, 3)), jnp.float32)
    plain = lambda variables, x: model.apply(variables, x, train=False)  # noqa: E731
    written = [e.primitive.name for e in jax.make_jaxpr(plain)(variables, x).jaxpr.eqns]
    assert len(joints(plain, variables, x)) == written.count("convolution")
    with backend.unkept():
        made = jax.jit(lambda v, x: models.evaluate(model, v, x))(variables, x)
    # A network magnifies what its layers round: `model_laws` allows 1e-5 for another order of sums in one of them.
    np.testing.assert_allclose(made, plain(variables, x), rtol=0, atol=5e-5 * float(jnp.abs(made).max()))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_are_given_what_was_written(platform: str) -> None:
    """The same operations; they join them by themselves. (What reshapes a vector moves nothing.)"""
    model = Conv(4, 3, use_bias=True)
    x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(x.shape)))
    plain = lambda variables, x: jax.nn.silu(model.apply(variables, x))  # noqa: E731

    def operations(function: Any) -> list[str]:
        text = jax.jit(function).trace(variables, x).lower(lowering_platforms=(platform,)).as_text()
        words = (line.split() for line in text.splitlines() if " = stablehlo." in line)
        return sorted(word for line in words for word in line if word.startswith("stablehlo."))

    ours = operations(joined(plain))
    assert "stablehlo.convolution" in " ".join(ours)
    assert "custom_call" not in " ".join(ours)
    assert set(ours) - {"stablehlo.reshape"} == set(operations(plain)) - {"stablehlo.reshape"}
