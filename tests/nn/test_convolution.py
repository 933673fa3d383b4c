"""Every way to compute a convolution gives XLA's own values and derivatives; GPU and TPU are given XLA's own."""

import functools
import itertools
import json
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import backend
from research.nn import conv
from research.nn.convolution import Geometry, candidates, convolution, cpu, transposed
from research.nn.convolution.primitive import native
from research.nn.operation import Circumstances

# Sums of n products of numbers near one, in another order: errors grow like sqrt(n) units in the last place.
ROUNDING = 2e-5
Drawn = tuple[tuple[Any, ...], int, int]


@st.composite
def convolutions(draw: st.DrawFn, most_rank: int = 3) -> Drawn:
    """The fields of a geometry with at least one output position, and channels in and out."""
    rank = draw(st.integers(1, most_rank))
    each = lambda values: tuple(draw(values) for _ in range(rank))  # noqa: E731
    window, strides, dilation = each(st.integers(1, 4)), each(st.integers(1, 3)), each(st.integers(1, 2))
    padding = each(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    reach = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    space = tuple(draw(st.integers(max(r - sum(p), 1), r + 5)) for r, p in zip(reach, padding, strict=True))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    return (space, window, strides, padding, dilation, groups), inputs, outputs


def operands(form: str, geometry: Geometry, inputs: int, outputs: int, batch: int = 2, dtype: Any = jnp.float32) -> Any:
    """Random operands of a form."""
    x = (batch, *geometry.space, inputs)
    w = (*geometry.window, inputs // geometry.groups, outputs)
    y = (batch, *geometry.out, outputs)
    shapes = {"output": (x, w), "input": (y, w), "kernel": (x, y)}[form]
    numbers = np.random.default_rng(0)
    return tuple(jnp.asarray(numbers.normal(size=shape), dtype) for shape in shapes)


def close(ours: Any, theirs: Any, tolerance: float = ROUNDING) -> None:
    """Equal up to `tolerance` of the largest number."""
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(1e-3, np.abs(other).max(initial=0)))


@pytest.mark.parametrize("form", ["output", "input", "kernel"])
@hypothesis.settings(max_examples=12)
@hypothesis.given(drawn=convolutions())
def test_every_candidate_computes_the_convolution(form: str, drawn: Drawn) -> None:
    geometry, (inputs, outputs) = Geometry(*drawn[0]), drawn[1:]
    a, b = operands(form, geometry, inputs, outputs)
    expected = native(a, b, form=form, geometry=geometry)(a, b)
    for name in candidates.possible(form, geometry, a.shape, b.shape, Circumstances(backend.has_onednn())):
        compute = functools.partial(getattr(candidates, f"{form}_{name}"), geometry=geometry)
        with backend.unkept():
            made = jax.jit(compute)(a, b)
        assert made.shape == expected.shape, name
        close(made, expected)


# Each kind of convolution that the networks have, so that no candidate waits for luck to be drawn.
KINDS = {
    "pointwise": (Geometry((7, 6), (1, 1), (1, 1), ((0, 0),) * 2, (1, 1)), 5, 6),
    "pointwise with a stride": (Geometry((7, 6), (1, 1), (2, 2), ((0, 0),) * 2, (1, 1)), 5, 6),
    "depthwise": (Geometry((7, 6), (3, 3), (1, 1), ((1, 1),) * 2, (1, 1), 4), 4, 4),
    "depthwise with a stride": (Geometry((7, 8), (5, 5), (2, 2), ((2, 2),) * 2, (1, 1), 4), 4, 4),
    "depthwise, TensorFlow's padding": (Geometry((8, 8), (3, 3), (2, 2), ((0, 1),) * 2, (1, 1), 4), 4, 4),
    "depthwise, two features a channel": (Geometry((7, 6), (3, 3), (1, 1), ((1, 1),) * 2, (1, 1), 4), 4, 8),
    "depthwise sequence": (Geometry((9,), (3,), (2,), ((1, 1),), (1,), 4), 4, 4),
    "grouped": (Geometry((7, 6), (3, 3), (2, 2), ((1, 1),) * 2, (1, 1), 2), 4, 6),
    "dense": (Geometry((7, 6), (3, 3), (1, 1), ((1, 1),) * 2, (1, 1)), 4, 6),
    "dense with a stride": (Geometry((9, 8), (7, 7), (2, 2), ((3, 3),) * 2, (1, 1)), 3, 6),
    "dense, rows that no window reaches": (Geometry((8, 9), (2, 2), (3, 3), ((0, 0),) * 2, (1, 1)), 3, 6),
    "dilated": (Geometry((9, 8), (3, 3), (1, 1), ((2, 2),) * 2, (2, 2)), 4, 6),
    "volume": (Geometry((4, 5, 6), (3, 3, 3), (1, 2, 1), ((1, 1),) * 3, (1, 1, 1)), 2, 3),
}


@pytest.mark.on_cpu
@pytest.mark.parametrize("kind", KINDS)
def test_candidates_of_each_kind(kind: str) -> None:
    geometry, inputs, outputs = KINDS[kind]
    seen = set()
    for form in ("output", "input", "kernel"):
        a, b = operands(form, geometry, inputs, outputs, batch=3)
        expected = native(a, b, form=form, geometry=geometry)(a, b)
        for name in candidates.possible(form, geometry, a.shape, b.shape, Circumstances(backend.has_onednn())):
            with backend.unkept():
                close(
                    jax.jit(functools.partial(getattr(candidates, f"{form}_{name}"), geometry=geometry))(a, b), expected
                )
            seen.add(f"{form}_{name}")
    assert seen, kind


def test_a_batch_that_is_worked_on_in_parts() -> None:
    geometry = Geometry((64, 64), (3, 3), (1, 1), ((1, 1),) * 2, (1, 1))
    a, b = operands("kernel", geometry, 16, 16, batch=6)  # 9 MB of shifted maps for each two images
    expected = native(a, b, form="kernel", geometry=geometry)(a, b)
    for name in ("rows", "patches"):
        compute = functools.partial(getattr(candidates, f"kernel_{name}"), geometry=geometry)
        assert "scan" in str(jax.make_jaxpr(compute)(a, b)), name
        close(jax.jit(compute)(a, b), expected, 1e-4)  # sums of 24,576 products


def reference(geometry: Geometry) -> Any:
    """XLA's own convolution of images with a kernel."""
    return lambda x, w: native(x, w, form="output", geometry=geometry)(x, w)


@hypothesis.settings(max_examples=6)
@hypothesis.given(drawn=convolutions(most_rank=2))
def test_derivatives_of_first_and_second_order(drawn: Drawn) -> None:
    geometry, (inputs, outputs) = Geometry(*drawn[0]), drawn[1:]
    x, w = operands("output", geometry, inputs, outputs)

    def first(f: Any) -> Any:
        return jax.jit(jax.grad(lambda x, w: jnp.sum(jnp.sin(f(x, w))), argnums=(0, 1)))(x, w)

    def second(f: Any) -> Any:  # as a gradient penalty has it
        norm = lambda x, w: sum(jnp.sum(g**2) for g in jax.grad(lambda x, w: jnp.sum(jnp.sin(f(x, w))), (0, 1))(x, w))  # noqa: E731
        return jax.jit(jax.grad(norm, argnums=(0, 1)))(x, w)

    def forward(f: Any) -> Any:
        return jax.jit(lambda x, w: jax.jvp(f, (x, w), (jnp.cos(x), jnp.cos(w))))(x, w)

    ours = functools.partial(convolution, geometry=geometry)
    for derivative, tolerance in ((first, 1e-4), (second, 1e-3), (forward, 1e-4)):  # each order multiplies sums of sums
        close(derivative(ours), derivative(reference(geometry)), tolerance)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 2)])
@pytest.mark.parametrize("kind", ["dense", "depthwise", "pointwise with a stride"])
def test_batches_of_convolutions(kind: str, axes: tuple[int | None, int | None]) -> None:
    geometry, inputs, outputs = KINDS[kind]
    x, w = operands("output", geometry, inputs, outputs)
    stack = lambda a, axis: a if axis is None else jnp.stack([a, 2 * a, a - 1], axis)  # noqa: E731
    many = tuple(map(stack, (x, w), axes))

    def value_and_gradients(f: Any) -> Any:
        one = jax.value_and_grad(lambda x, w: jnp.sum(jnp.sin(f(x, w))), argnums=(0, 1))
        return jax.jit(jax.vmap(one, axes))(*many), jax.jit(jax.vmap(f, axes))(*many)

    close(
        value_and_gradients(functools.partial(convolution, geometry=geometry)),
        value_and_gradients(reference(geometry)),
        1e-4,  # a loss summed over some hundred positions
    )


def test_batches_of_batches_of_convolutions() -> None:
    geometry, inputs, outputs = KINDS["dense"]
    x, w = operands("output", geometry, inputs, outputs)
    xs, ws = jnp.stack([x, x + 1]), jnp.stack([w, w - 1, 2 * w])
    both = lambda f: jax.vmap(jax.vmap(f, (None, 0)), (0, None))(xs, ws)  # noqa: E731
    close(both(functools.partial(convolution, geometry=geometry)), both(reference(geometry)))
    many = jnp.stack([w] * (cpu.UNROLLED + 1))
    pairs = lambda f: jax.vmap(f)(jnp.stack([x] * len(many)), many)  # noqa: E731
    close(pairs(functools.partial(convolution, geometry=geometry)), pairs(reference(geometry)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("kind", ["dense", "depthwise", "pointwise"])
def test_half_precision_keeps_its_type(kind: str, dtype: Any) -> None:
    geometry, inputs, outputs = KINDS[kind]
    x, w = operands("output", geometry, inputs, outputs, dtype=dtype)
    f = functools.partial(convolution, geometry=geometry)
    y, (dx, dw) = f(x, w), jax.grad(lambda x, w: jnp.sum(f(x, w) ** 2).astype(jnp.float32), (0, 1))(x, w)
    assert (y.dtype, dx.dtype, dw.dtype) == (dtype,) * 3
    # The result is rounded once to 8 (11) bits; the sum of the same numbers in float32 is what it is rounded from.
    expected = reference(geometry)(x.astype(jnp.float32), w.astype(jnp.float32))
    close(y, expected, 2**-7)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("kind", KINDS)
def test_accelerators_are_given_native_convolutions(kind: str, platform: str) -> None:
    geometry, inputs, outputs = KINDS[kind]
    x, w = operands("output", geometry, inputs, outputs)
    step = jax.grad(lambda x, w: jnp.sum(convolution(x, w, geometry) ** 2), argnums=(0, 1))
    text = jax.jit(step).trace(x, w).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 3
    assert "custom_call" not in text
    assert "dot_general" not in text


def test_what_leaves_the_process_calls_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry, inputs, outputs = KINDS["depthwise"]
    x, w = operands("output", geometry, inputs, outputs)
    f = jax.jit(functools.partial(convolution, geometry=geometry))
    assert "onednn" not in str(jax.export.export(f)(x, w).mlir_module())
    assert "onednn" not in str(jax.export.export(f, platforms=("cpu", "tpu"))(x, w).mlir_module())
    assert "onednn" not in f.lower(x, w).as_text()  # the tests keep compiled programs
    monkeypatch.setenv("CONVSCALE_LOWERING", "native")
    text = jax.jit(functools.partial(convolution, geometry=geometry)).lower(x, w).as_text()
    assert "stablehlo.convolution" in text


def test_a_program_that_is_not_kept_may_call_the_library() -> None:
    geometry = Geometry((56, 56), (3, 3), (1, 1), ((1, 1),) * 2, (1, 1), 144)
    x, w = operands("output", geometry, 144, 144, batch=8)
    f = functools.partial(convolution, geometry=geometry)
    with backend.unkept():
        lowered = jax.jit(f).lower(x, w)
        compiled = lowered.compile()
    assert ("__onednn$convolution" in lowered.as_text()) == backend.has_onednn()
    close(compiled(x, w), reference(geometry)(x, w))


def test_transposed_convolution_is_the_gradient_for_the_images() -> None:
    geometry, inputs, outputs = KINDS["dense with a stride"]
    y, w = operands("input", geometry, inputs, outputs)
    x = jnp.zeros((2, *geometry.space, inputs))
    close(transposed(y, w, geometry), jax.vjp(lambda x: reference(geometry)(x, w), x)[1](y)[0])


def test_measurements_cover_every_form_and_kind() -> None:
    rows = json.loads(cpu.MEASURED.read_text())["rows"]
    assert {(row["form"], row["kind"]) for row in rows} == set(
        itertools.product(("output", "input", "kernel"), ("pointwise", "depthwise", "grouped", "dense"))
    )
    for row in rows:
        assert "native" in row["seconds"]
        assert all(hasattr(candidates, f"{row['form']}_{name}") for name in row["seconds"] if name != "native")
        assert min(row["seconds"].values()) > 0


def test_the_nearest_measured_shape_decides() -> None:
    geometry = Geometry((56, 56), (3, 3), (1, 1), ((1, 1),) * 2, (1, 1), 144)
    a, b = (8, 56, 56, 144), (3, 3, 1, 144)
    chosen = cpu.fastest("output", geometry, a, b, Circumstances())
    assert chosen == "shifted"  # XLA's own depthwise convolution is some thirty times slower
    _, point = cpu.described("output", geometry, a, b)
    assert point == pytest.approx((3.0, np.log2(56 * 56), np.log2(144), np.log2(144), np.log2(9), 0.0), abs=1e-3)


@hypothesis.settings(max_examples=15)
@hypothesis.given(drawn=convolutions(), dtype=st.sampled_from([jnp.float32, jnp.bfloat16]))
def test_contract_of_conv_general_dilated(drawn: Drawn, dtype: Any) -> None:
    geometry, (inputs, outputs) = Geometry(*drawn[0]), drawn[1:]
    x, w = operands("output", geometry, inputs, outputs, dtype=dtype)
    axes = "DHW"[-len(geometry.space) :]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    arguments = (geometry.strides, geometry.padding)
    keywords: dict[str, Any] = {
        "rhs_dilation": geometry.dilation,
        "dimension_numbers": numbers,
        "feature_group_count": geometry.groups,
    }
    ours = conv.conv_general_dilated(x, w, *arguments, **keywords)
    theirs = jax.lax.conv_general_dilated(x, w, *arguments, **keywords)
    assert ours.dtype == theirs.dtype
    close(ours, theirs, ROUNDING if dtype == jnp.float32 else 2**-7)
