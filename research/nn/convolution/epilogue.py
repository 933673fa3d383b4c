"""What follows a convolution in evaluation, computed with it: its epilogue (norm, bias, shortcut, activation).

Each of these by itself reads and writes all maps again, which on a CPU takes as long as the convolution. oneDNN does
them to each part of its result while it is in the cache: a norm with known statistics is a scale for the kernel's
features and a bias. `joined` finds them in what a function computes, so that networks are written without a thought
of it. GPU and TPU lower what was written, in its order: their compiler joins it itself.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import ad, batching
from jaxtyping import Array

from research import backend
from research.nn import onednn
from research.nn.convolution import candidates, cpu
from research.nn.convolution.primitive import Geometry, convolution, native, operation
from research.nn.operation import Circumstances, Compute, Operation, Shaped

# "shortcut" adds maps; the others have a number for each channel as their second operand.
Step = Literal["sub", "add", "mul", "shortcut"]
ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "sub": jax.lax.sub,
    "add": jax.lax.add,
    "mul": jax.lax.mul,
    "shortcut": jax.lax.add,
}
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {  # under the names that oneDNN's call has for them
    "RELU": jax.nn.relu,
    "RELU6": jax.nn.relu6,
    "SWISH": jax.nn.silu,
}
WORTH = 4_000_000  # bytes of the maps of a pointwise convolution, at least; `python -m benchmarks.epilogues`


def joined(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, in which a convolution and what alone uses its result are one operation; equal to rounding.

    For functions that are not differentiated, of float32 maps; what follows is taken in the order of `Step`s and at
    last an activation, as far as it goes. Only where `CONVSCALE_LOWERING` is `measured`.
    """

    def evaluate(*arguments: Any) -> Any:
        if backend.lowering() != "measured" or backend.is_plain():
            return function(*arguments)
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        made = core.jaxpr_as_fun(_joined(closed))(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), made)

    return evaluate


class _Epilogue(NamedTuple):
    """Where an epilogue ends, and what it is made of."""

    last: int  # of the equations of the jaxpr
    steps: tuple[Step, ...]
    operands: tuple[Any, ...]
    activation: str | None
    replaced: tuple[int, ...]  # equations


def _joined(closed: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """The jaxpr with every convolution that has an epilogue in the place of the epilogue's end."""
    jaxpr = closed.jaxpr
    made = {id(variable): at for at, equation in enumerate(jaxpr.eqns) for variable in equation.outvars}
    users: dict[int, list[int]] = {id(variable): [-1] for variable in jaxpr.outvars}
    for at, equation in enumerate(jaxpr.eqns):
        for variable in equation.invars:
            users.setdefault(id(variable), []).append(at)
    taken: set[int] = set()  # equations that became part of another
    joints: dict[int, Any] = {}  # what stands in the place of an epilogue's end
    for at, equation in enumerate(jaxpr.eqns):
        if equation.primitive is not operation.primitive or equation.params["form"] != "output":
            continue
        if equation.params["geometry"].members or equation.outvars[0].aval.dtype != jnp.float32:
            continue
        found = _epilogue(jaxpr, at, users, made, taken)
        if not found.replaced:
            continue
        static = {"geometry": equation.params["geometry"], "steps": found.steps, "activation": found.activation}
        operands = (*equation.invars, *found.operands)
        params = {**static, "jaxpr": _operation.meaning_of([x.aval for x in operands], static)}
        outvars = jaxpr.eqns[found.last].outvars
        taken |= {at, *found.replaced}
        joints[found.last] = equation.replace(
            primitive=_operation.primitive, invars=list(operands), outvars=outvars, params=params
        )
    kept = [joints.get(at, equation) for at, equation in enumerate(jaxpr.eqns) if at in joints or at not in taken]
    return closed.replace(jaxpr=jaxpr.replace(eqns=kept))


def _epilogue(jaxpr: Any, at: int, users: dict[int, list[int]], made: dict[int, int], taken: set[int]) -> _Epilogue:
    """What follows the convolution of an equation, each the only user of what is before it."""
    found = _Epilogue(at, (), (), None, ())
    while True:
        variable = jaxpr.eqns[found.last].outvars[0]
        only = users.get(id(variable), [])
        if len(only) != 1 or only[0] < 0 or only[0] in taken:
            return found
        last, equation = only[0], jaxpr.eqns[only[0]]
        if activation := _activation(equation):
            return found._replace(last=last, activation=activation, replaced=(*found.replaced, last))
        step = _step(equation, variable, jaxpr, made)
        if step is None or "shortcut" in found.steps:
            return found
        name, operand = step
        steps, operands = (*found.steps, name), (*found.operands, operand)
        found = _Epilogue(last, steps, operands, None, (*found.replaced, last))


def _step(equation: Any, variable: Any, jaxpr: Any, made: dict[int, int]) -> tuple[Step, Any] | None:
    """The step that an equation is for a variable, and its other operand."""
    name, shape = equation.primitive.name, variable.aval.shape
    if name not in ARITHMETIC or len(equation.invars) != 2 or equation.outvars[0].aval.shape != shape:
        return None
    first, second = equation.invars
    if name == "sub" and first is not variable:
        return None
    other = second if first is variable else first
    if isinstance(other, core.Literal) or other.aval.dtype != jnp.float32:
        return None
    if _is_per_channel(other.aval.shape, shape):
        return name, other
    source = jaxpr.eqns[made[id(other)]] if id(other) in made else None
    if source is not None and source.primitive.name in ("broadcast_in_dim", "values_at_positions"):
        values = source.invars[0]
        last_axis = source.params.get("broadcast_dimensions", (len(shape) - 1,)) == (len(shape) - 1,)
        if not isinstance(values, core.Literal) and values.aval.shape == shape[-1:] and last_axis:
            return name, values
    return ("shortcut", other) if name == "add" and other.aval.shape == shape else None


def _is_per_channel(shape: Sequence[int], maps: Sequence[int]) -> bool:
    return len(shape) == len(maps) and shape[-1] == maps[-1] and set(shape[:-1]) == {1} and set(maps[:-1]) != {1}


def _activation(equation: Any) -> str | None:
    """Which of `ACTIVATIONS` an equation is: that which is written as the same jaxpr."""
    inner = equation.params.get("call_jaxpr") or equation.params.get("jaxpr")
    if equation.primitive.name not in ("jit", "custom_jvp_call") or len(equation.invars) != 1:
        return None
    aval = equation.invars[0].aval
    return next((name for name in ACTIVATIONS if str(inner) == _written(name, aval.shape, aval.dtype)), None)


@functools.cache
def _written(activation: str, shape: tuple[int, ...], dtype: Any) -> str:
    (equation,) = jax.make_jaxpr(ACTIVATIONS[activation])(jax.ShapeDtypeStruct(shape, dtype)).eqns
    return str(equation.params.get("call_jaxpr") or equation.params["jaxpr"])


def _after(y: Array, operands: Sequence[Array], steps: Sequence[Step], activation: str | None) -> Array:
    """The epilogue by itself."""
    for step, operand in zip(steps, operands, strict=True):
        wide = operand if step == "shortcut" else operand.reshape((1,) * (y.ndim - 1) + (-1,))
        y = ARITHMETIC[step](y, jnp.broadcast_to(wide, y.shape))
    return y if activation is None else ACTIVATIONS[activation](y)


def _meaning(
    x: Shaped, kernel: Shaped, *operands: Shaped, geometry: Geometry, steps: tuple[Step, ...], activation: str | None
) -> Compute:
    plain = native(x, kernel, form="output", geometry=geometry)
    return lambda x, kernel, *operands: _after(plain(x, kernel), operands, steps, activation)


def _one_after_the_other(geometry: Geometry, steps: tuple[Step, ...], activation: str | None) -> Compute:
    return lambda x, kernel, *operands: _after(convolution(x, kernel, geometry), operands, steps, activation)


def _on_cpu(
    circumstances: Circumstances,
    x: Shaped,
    kernel: Shaped,
    *operands: Shaped,
    geometry: Geometry,
    steps: tuple[Step, ...],
    activation: str | None,
) -> Compute:
    if not _is_worth_it(circumstances, x, kernel, geometry):
        return _one_after_the_other(geometry, steps, activation)

    def together(x: Array, kernel: Array, *operands: Array) -> Array:
        bias = jnp.zeros(kernel.shape[-1:], kernel.dtype)
        shortcut = None
        for step, operand in zip(steps, operands, strict=True):
            if step == "shortcut":
                shortcut = operand
                continue
            bias = ARITHMETIC[step](bias, operand.reshape(-1))
            kernel = kernel * operand.reshape((1,) * (kernel.ndim - 1) + (-1,)) if step == "mul" else kernel
        return onednn.convolution(
            x,
            kernel,
            strides=geometry.strides,
            padding=geometry.padding,
            dilation=geometry.dilation,
            groups=geometry.groups,
            epilogue=onednn.Epilogue(bias, shortcut, activation),
        )

    return together


def _is_worth_it(circumstances: Circumstances, x: Shaped, kernel: Shaped, geometry: Geometry) -> bool:
    """Whether oneDNN can be called and is the fastest: for small maps its call takes longer than a product."""
    possible = candidates.possible("output", geometry, x.shape, kernel.shape, circumstances)
    if "library" not in possible or 0 in (*x.shape, *kernel.shape):
        return False
    if candidates.is_pointwise(geometry):
        return 4 * x.shape[0] * math.prod(geometry.out) * kernel.shape[-1] >= WORTH
    return cpu.fastest("output", geometry, x.shape, kernel.shape, circumstances) == "library"


_operation = Operation("convolution_with_epilogue", _meaning, _on_cpu)


# Of what it means, computed as ours: evaluation is rarely differentiated, but nothing forbids it.


def _of_tangents(primals: Any, tangents: Any, *, jaxpr: Any, **static: Any) -> tuple[Array, Array]:
    dense = [ad.instantiate_zeros(tangent) for tangent in tangents]
    return jax.jvp(_one_after_the_other(**static), tuple(primals), tuple(dense))


def _batched(operands: Any, axes: Any, *, jaxpr: Any, **static: Any) -> tuple[Array, int]:
    return jax.vmap(_one_after_the_other(**static), in_axes=tuple(axes))(*operands), 0


ad.primitive_jvps[_operation.primitive] = _of_tangents
batching.primitive_batchers[_operation.primitive] = _batched
