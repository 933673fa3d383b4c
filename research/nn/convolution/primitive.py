"""Convolution as one JAX operation with its own laws: derivative, batching, and a lowering for the CPU.

Of images x, a kernel w and output maps y, a convolution is one trilinear product, <conv(x, w), y>. It has three
bilinear forms, and each is a derivative of the others:

    output(x, w) -> y        the convolution
    input(y, w) -> x         its gradient for the images: a transposed convolution
    kernel(x, y) -> w        its gradient for the kernel

So derivatives of any order are these three again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching
from jaxtyping import Array, Float

from research.nn.convolution import cpu
from research.nn.operation import Operation, Shaped

Form = Literal["output", "input", "kernel"]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """What of a convolution its operands' shapes do not say; a number for each spatial axis, in pixels.

    `space`: of the images; `window`: of the kernel; `padding`: zeros before and after; `dilation`: from tap to tap.
    `members`: how many convolutions stand side by side along a leading axis of both operands and the result; 0: one,
    without that axis. `precision`: of XLA's native convolution.
    """

    space: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[Pair, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    members: int = 0
    precision: Any = None

    @property
    def reach(self) -> tuple[int, ...]:
        """Pixels from the first tap of the kernel to its last, both counted."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.window, self.dilation, strict=True))

    @property
    def out(self) -> tuple[int, ...]:
        """Size of the output maps."""
        rows = zip(self.space, self.padding, self.reach, self.strides, strict=True)
        return tuple((n + low + high - r) // s + 1 for n, (low, high), r, s in rows)


def convolution(
    x: Float[Array, "b *space c"], kernel: Float[Array, "*window in_channels features"], geometry: Geometry
) -> Float[Array, "b *out features"]:
    """The convolution of images with a kernel, both of one type; any rank of space, any order of derivative."""
    return operation(x, kernel, form="output", geometry=_as_asked(geometry))


def transposed(
    y: Float[Array, "b *out features"], kernel: Float[Array, "*window in_channels features"], geometry: Geometry
) -> Float[Array, "b *space c"]:
    """The transposed convolution: the gradient for the images of the convolution that `geometry` says."""
    return operation(y, kernel, form="input", geometry=_as_asked(geometry))


def _as_asked(geometry: Geometry) -> Geometry:
    """With the precision that is asked for where the operation is written down."""
    return replace(geometry, precision=jax.config.values["jax_default_matmul_precision"])


def native(a: Shaped, b: Shaped, *, form: Form, geometry: Geometry) -> Callable[..., Array]:
    """One form as XLA's own convolution, for operands of the shapes of `a` and `b`."""
    rank, batch = len(geometry.space), a.shape[int(geometry.members > 0)]
    spatial = tuple(range(1, rank + 1))
    maps = (0, rank + 1, *spatial)
    numbers = jax.lax.ConvDimensionNumbers(maps, (rank + 1, rank, *range(rank)), maps)

    def convolve(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            geometry.strides,
            geometry.padding,
            rhs_dilation=geometry.dilation,
            dimension_numbers=numbers,
            feature_group_count=geometry.groups,
            precision=geometry.precision,
        )

    def of_input(y: Array, kernel: Array) -> Array:
        images = jax.ShapeDtypeStruct((batch, *geometry.space, kernel.shape[-2] * geometry.groups), a.dtype)
        return jax.linear_transpose(lambda x: convolve(x, kernel), images)(y)[0]

    def of_kernel(x: Array, y: Array) -> Array:
        kernels = jax.ShapeDtypeStruct((*geometry.window, x.shape[-1] // geometry.groups, y.shape[-1]), a.dtype)
        return jax.linear_transpose(lambda kernel: convolve(x, kernel), kernels)(y)[0]

    fun = {"output": convolve, "input": of_input, "kernel": of_kernel}[form]
    return jax.vmap(fun) if geometry.members else fun


operation = Operation("convolution", native, cpu.choose)


# Derivatives. The product is linear in either operand, and transposing it gives one of the other two forms.


def _first(cotangent: Array, a: Any, b: Array, *, form: Form, geometry: Geometry, jaxpr: Any) -> Array:
    if form == "output":
        return operation(cotangent, b, form="input", geometry=geometry)
    if form == "input":
        return operation(cotangent, b, form="output", geometry=geometry)
    return operation(b, cotangent, form="input", geometry=geometry)


def _second(cotangent: Array, a: Array, b: Any, *, form: Form, geometry: Geometry, jaxpr: Any) -> Array:
    if form == "output":
        return operation(a, cotangent, form="kernel", geometry=geometry)
    if form == "input":
        return operation(cotangent, a, form="kernel", geometry=geometry)
    return operation(a, cotangent, form="output", geometry=geometry)


ad.defbilinear(operation.primitive, _first, _second)


# Batching. Images and maps join the batch, kernels the features; what cannot be joined are members side by side.


def _batched(
    operands: Sequence[Array], axes: Sequence[int | None], *, form: Form, geometry: Geometry, jaxpr: Any
) -> tuple[Array, int]:
    a, b = (x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(operands, axes, strict=True))
    one, other = (axis is not None for axis in axes)
    size = a.shape[0] if one else b.shape[0]
    if not geometry.members and form != "kernel" and not other:
        merged = operation(a.reshape(-1, *a.shape[2:]), b, form=form, geometry=geometry)
        return merged.reshape(size, -1, *merged.shape[1:]), 0
    if not geometry.members and geometry.groups == 1 and form != "input" and not one:
        joined = jnp.moveaxis(b, 0, -2)  # the kernels, or the output maps, of all as features of one
        merged = operation(a, joined.reshape(*joined.shape[:-2], -1), form=form, geometry=geometry)
        return jnp.moveaxis(merged.reshape(*merged.shape[:-1], size, -1), -2, 0), 0
    pairs = ((a, one), (b, other))
    a, b = (x if is_batched else jnp.broadcast_to(x, (size, *x.shape)) for x, is_batched in pairs)
    if not geometry.members:
        return operation(a, b, form=form, geometry=replace(geometry, members=size)), 0
    a, b = (x.reshape(-1, *x.shape[2:]) for x in (a, b))
    made = operation(a, b, form=form, geometry=replace(geometry, members=size * geometry.members))
    return made.reshape(size, -1, *made.shape[1:]), 0


batching.primitive_batchers[operation.primitive] = _batched
