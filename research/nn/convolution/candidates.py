"""Ways to compute the three forms of a convolution on a CPU; `cpu` says which is used where.

Each is a function of two operands ("b *space c" images or maps, "*window i o" kernels, as the form has them) and the
geometry, exact to rounding, and states what it can compute. Those in `LIBRARY` need oneDNN (`onednn`); the others are
plain JAX.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jaxtyping import Array

from research.nn import onednn
from research.nn.convolution import banded
from research.nn.operation import Circumstances
from research.ordering import apart

if TYPE_CHECKING:
    from research.nn.convolution.primitive import Geometry, Pair

Candidate = Callable[[Array, Array, "Geometry"], Array]
Product = Callable[[Array, Array], Array]
LIBRARY = {
    "library",
    "library_product",
    "library_rows",
    "library_patches",
    "tall",
    "transposed",
}  # those that call oneDNN
LOOPS = {"shifted", "rows", "patches"}  # those that loop over the batch, of the kernel's without oneDNN
_CHUNK = 1 << 21  # bytes of what a loop over parts of a batch works on: it stays in the cache of a core


def is_pointwise(geometry: "Geometry") -> bool:
    """Whether every output position sees one position of the images: window 1, no padding, one group."""
    return set(geometry.window) == {1} and set(geometry.padding) == {(0, 0)} and geometry.groups == 1


def is_depthwise(geometry: "Geometry", inputs: int, outputs: int) -> bool:
    """Whether each channel is convolved alone, into one or several."""
    return geometry.groups == inputs > 1 and outputs % inputs == 0


def _strided(x: Array, geometry: "Geometry") -> Array:
    """The positions of images that a pointwise convolution sees."""
    return x[(slice(None), *(slice(None, None, s) for s in geometry.strides))]


# --- Pointwise: a matrix product over all positions.


def output_product(x: Array, kernel: Array, geometry: "Geometry") -> Array:
    """[positions, c] x [c, features]."""
    return jax.lax.dot_general(
        _strided(x, geometry), kernel[(0,) * len(geometry.space)], (((x.ndim - 1,), (0,)), ((), ()))
    )


def input_product(y: Array, kernel: Array, geometry: "Geometry") -> Array:
    """[positions, features] x [features, c], spread where there is a stride."""
    x = jax.lax.dot_general(y, kernel[(0,) * len(geometry.space)], (((y.ndim - 1,), (1,)), ((), ())))
    rows = zip(geometry.space, y.shape[1:-1], geometry.strides, strict=True)
    spread = [(0, n - (o - 1) * s - 1, s - 1) for n, o, s in rows]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *spread, (0, 0, 0)])


def kernel_product(x: Array, y: Array, geometry: "Geometry") -> Array:
    """[c, positions] x [positions, features]."""
    x, y = _strided(x, geometry).reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    return _long_product(x, y).reshape(*geometry.window, x.shape[-1], y.shape[-1])


def kernel_library_product(x: Array, y: Array, geometry: "Geometry") -> Array:
    """[c, positions] x [positions, features] by oneDNN, which divides long sums over the cores."""
    x, y = _strided(x, geometry).reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    return onednn.product(x, y).reshape(*geometry.window, x.shape[-1], y.shape[-1])


# --- Depthwise: sums of shifted maps, a weight per channel.


def _taps(geometry: "Geometry") -> list[tuple[tuple[int, ...], list[slice]]]:
    """For each tap of the window: its place, and the positions of the padded images that it meets."""
    places = itertools.product(*map(range, geometry.window))
    rows = list(zip(geometry.dilation, geometry.strides, geometry.out, strict=True))
    return [
        (t, [slice(i * d, i * d + (o - 1) * s + 1, s) for i, (d, s, o) in zip(t, rows, strict=True)]) for t in places
    ]


def _padded(x: Array, geometry: "Geometry") -> Array:
    return jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))


def _repeated(x: Array, kernel_features: int) -> Array:
    """Every channel as often as it has features."""
    return x if kernel_features == x.shape[-1] else jnp.repeat(x, kernel_features // x.shape[-1], axis=-1)


def output_shifted(x: Array, kernel: Array, geometry: "Geometry") -> Array:
    """The sum over taps of the shifted images times the tap's weights."""
    padded = _repeated(_padded(x, geometry), kernel.shape[-1])
    weights = (kernel[(*tap, slice(0, 1))][(None,) * len(tap)] for tap, _ in _taps(geometry))
    seen = (padded[(slice(None), *at)] for _, at in _taps(geometry))
    return functools.reduce(jnp.add, map(jnp.multiply, seen, weights))


def input_shifted(y: Array, kernel: Array, geometry: "Geometry") -> Array:
    """The sum over taps of the maps times the tap's weights, each put where the tap found its images."""
    rows = list(zip(geometry.space, geometry.padding, geometry.strides, geometry.dilation, y.shape[1:-1], strict=True))

    def moved(y: Array) -> Array:
        parts = []
        for tap, _ in _taps(geometry):
            places = zip(tap, rows, strict=True)
            at = [(t * d - low, n + low - t * d - (o - 1) * s - 1, s - 1) for t, (n, (low, _), s, d, o) in places]
            weighed = y * kernel[(*tap, slice(0, 1))][(None,) * len(at)]
            parts.append(jax.lax.pad(weighed, jnp.zeros((), y.dtype), [(0, 0, 0), *at, (0, 0, 0)]))
        return functools.reduce(jnp.add, parts)

    # By itself it is one loop; fused with what uses the sum, some of the parts are written down and others found twice.
    total = apart(moved, y)
    multiple = y.shape[-1] // geometry.groups
    return total if multiple == 1 else total.reshape(*total.shape[:-1], geometry.groups, multiple).sum(-1)


def kernel_shifted(x: Array, y: Array, geometry: "Geometry") -> Array:
    """For each tap the sum over positions of the shifted images times the maps, one image after the other."""
    padded = _repeated(_padded(x, geometry), y.shape[-1])
    axes = tuple(range(len(geometry.space)))

    def add(sums: list[Array], image: tuple[Array, Array]) -> tuple[list[Array], None]:
        one, maps = image
        return [
            s + jnp.sum(one[tuple(at)] * maps, axes) for s, (_, at) in zip(sums, _taps(geometry), strict=True)
        ], None

    start = [jnp.zeros(y.shape[-1], y.dtype)] * math.prod(geometry.window)
    sums, _ = jax.lax.scan(add, start, (padded, y))
    return jnp.stack(sums).reshape(*geometry.window, 1, y.shape[-1])


# --- Few channels: a matrix product with a banded matrix.


def output_banded(x: Array, kernel: Array, geometry: "Geometry") -> Array:
    """`banded.convolution`."""
    return banded.convolution(x, kernel, strides=geometry.strides, padding=geometry.padding, out=geometry.out)


def input_banded(y: Array, kernel: Array, geometry: "Geometry") -> Array:
    """`banded.convolution` of the maps with the kernel turned; of stride 1."""
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return banded.convolution(y, turned, strides=(1, 1), padding=_turned_padding(geometry), out=geometry.space)


def _turned_padding(geometry: "Geometry") -> "tuple[Pair, ...]":
    """Of the maps, so that the turned kernel gives images, at stride 1: with `geometry.padding`, window - 1 each."""
    exact = zip(geometry.window, geometry.space, geometry.out, geometry.padding, strict=True)
    return tuple((k - 1 - low, n + low - out) for k, n, out, (low, _) in exact)


def _can_be_banded(form: str, geometry: "Geometry", a: tuple[int, ...], inputs: int, outputs: int) -> bool:
    """Whether the banded product can compute it, and is not much too large."""
    if len(geometry.space) != 2 or geometry.groups > 1 or set(geometry.dilation) != {1} or set(geometry.window) == {1}:
        return False
    if form == "output":
        padding, out, seen = geometry.padding, geometry.out, inputs
    elif form == "input" and set(geometry.strides) == {1}:
        padding, out, seen = _turned_padding(geometry), geometry.space, outputs
    else:
        return False
    size = banded.stretches(a[0], out, geometry.window, geometry.strides, seen)
    return min(min(pair) for pair in padding) >= 0 and size <= banded.MOST


# --- oneDNN's forward convolution, for all three forms.


def output_library(x: Array, kernel: Array, geometry: "Geometry") -> Array:
    """oneDNN's convolution."""
    g = geometry
    return onednn.convolution(x, kernel, strides=g.strides, padding=g.padding, dilation=g.dilation, groups=g.groups)


def _flipped(kernel: Array, groups: int) -> Array:
    """The kernel from output maps to images: taps in reverse, the channels of each group exchanged.

    Of one group, the taps alone: oneDNN exchanges the channels in the course of what it does to a kernel anyway.
    """
    rank = kernel.ndim - 2
    kernel = jnp.flip(kernel, range(rank))
    if groups == 1:
        return kernel
    inputs, outputs = kernel.shape[-2], kernel.shape[-1] // groups
    kernel = kernel.reshape(*kernel.shape[:-1], groups, outputs)
    return (
        jnp.moveaxis(kernel, -3, -1)
        .reshape(*kernel.shape[:rank], groups, outputs, inputs)
        .swapaxes(-3, -2)
        .reshape(*kernel.shape[:rank], outputs, groups * inputs)
    )


def input_library(y: Array, kernel: Array, geometry: "Geometry") -> Array:
    """oneDNN's convolution of the maps with the flipped kernel; with a stride, one for each phase of the positions.

    An image position i gets a term from the map position o through the tap t where i = o * stride + t - padding: the
    positions of one remainder modulo the stride see every stride-th tap, at neighbouring map positions.
    """
    strides = geometry.strides
    counts = [-(-n // s) for n, s in zip(geometry.space, strides, strict=True)]  # positions of a phase
    phases = []
    for remainders in itertools.product(*map(range, strides)):
        first, shifts = [], []
        for r, s, (low, _) in zip(remainders, strides, geometry.padding, strict=True):
            first.append((r + low) % s)
            shifts.append((r + low) // s)
        part = kernel[tuple(slice(t, None, s) for t, s in zip(first, strides, strict=True))]
        phases.append(_phase(y, part, shifts, counts, geometry))
    if len(phases) == 1:
        return phases[0]
    whole = _interleaved(phases, strides)
    return whole[(slice(None), *(slice(n) for n in geometry.space))]


def _interleaved(phases: Sequence[Array], strides: Sequence[int]) -> Array:
    """Arrays "b *counts c", one for each remainder modulo the strides, as the one array they are the phases of."""
    rank, first = len(strides), phases[0]
    stacked = jnp.stack(phases).reshape(*strides, *first.shape)
    order = [rank, *itertools.chain(*((rank + 1 + a, a) for a in range(rank))), 2 * rank + 1]
    sizes = [count * s for count, s in zip(first.shape[1:-1], strides, strict=True)]
    return stacked.transpose(order).reshape(first.shape[0], *sizes, first.shape[-1])


def _phase(y: Array, part: Array, shifts: list[int], counts: list[int], geometry: "Geometry") -> Array:
    """The positions of one phase: position q sees map position q + shift - m through tap m of `part`."""
    taps = part.shape[:-2]
    if 0 in taps:
        return jnp.zeros((y.shape[0], *counts, part.shape[-2] * geometry.groups), y.dtype)
    rows = zip(taps, shifts, counts, y.shape[1:-1], geometry.dilation, strict=True)
    padding = []
    for m, shift, count, n, d in rows:
        low = d * (m - 1) - shift
        padding.append((low, count + d * (m - 1) - n - low))
    y, padding = _cropped(y, padding)
    ones = (1,) * len(taps)
    flipped = _flipped(part, geometry.groups)
    return onednn.convolution(
        y,
        flipped,
        strides=ones,
        padding=padding,
        dilation=geometry.dilation,
        groups=geometry.groups,
        exchanged=geometry.groups == 1,
    )


def _cropped(x: Array, padding: list[tuple[int, int]]) -> tuple[Array, list[tuple[int, int]]]:
    """Images without the pixels that a negative padding takes away, and the padding that is left."""
    if all(side >= 0 for pair in padding for side in pair):
        return x, padding
    crop = [(min(low, 0), min(high, 0), 0) for low, high in padding]
    cropped = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *crop, (0, 0, 0)])
    return cropped, [(max(low, 0), max(high, 0)) for low, high in padding]


def kernel_transposed(x: Array, y: Array, geometry: "Geometry") -> Array:
    """oneDNN's convolution of the images with the maps as kernel: the batch is what it sums over as channels.

    One more spatial axis holds the images' channels, so that the matrix products inside are channels x batch x
    features. In parts of the batch.
    """
    groups, inputs = geometry.groups, x.shape[-1] // geometry.groups
    x, padding = _cropped(x, _exact_padding(geometry))

    def part(x: Array, y: Array) -> Array:
        images = jnp.moveaxis(x.reshape(*x.shape[:-1], groups, inputs), (0, -2), (-1, -2))
        images = images.reshape(1, *x.shape[1:-1], inputs, groups * x.shape[0])
        return onednn.convolution(
            images,
            jnp.moveaxis(y, 0, -2)[..., None, :, :],
            strides=(*geometry.dilation, 1),
            padding=(*padding, (0, 0)),
            dilation=(*geometry.strides, 1),
            groups=groups,
        )[0]

    return _in_parts(part, x, y, 4 * (x.size + y.size))


def _exact_padding(geometry: "Geometry") -> list[tuple[int, int]]:
    """The padding of which every pixel is used: what the last window leaves over is cut off (it may be negative)."""
    rows = zip(geometry.space, geometry.padding, geometry.reach, geometry.strides, geometry.out, strict=True)
    return [(low, (o - 1) * s + r - n - low) for n, (low, _), r, s, o in rows]


def kernel_tall(x: Array, y: Array, geometry: "Geometry") -> Array:
    """Depthwise: the images of a batch below each other as one, convolved by oneDNN with the maps as one kernel."""
    x, padding = _cropped(x, _exact_padding(geometry))
    batch, rows = x.shape[:2]
    stride, (low, _), reach, out = geometry.strides[0], padding[0], geometry.reach[0], y.shape[1]
    period = max(rows + low, (out - 1) * stride + reach)
    period = -(-period // stride) * stride  # rows from one image to the next
    rest = [(0, 0)] * (x.ndim - 2)
    images = jnp.pad(x, ((0, 0), (low, period - rows - low), *rest)).reshape(1, batch * period, *x.shape[2:])
    maps = jnp.pad(y, ((0, 0), (0, period // stride - out), *rest))
    maps = maps.reshape(batch * period // stride, *y.shape[2:-1], 1, y.shape[-1])
    images, padding = _cropped(images, [(0, reach - stride), *padding[1:]])
    made = onednn.convolution(
        images,
        maps,
        strides=geometry.dilation,
        padding=padding,
        dilation=geometry.strides,
        groups=geometry.groups,
    )
    return made.reshape(*geometry.window, 1, y.shape[-1])


def _long_product(a: Array, b: Array) -> Array:
    """[positions, m] and [positions, n] -> [m, n]."""
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())))


def kernel_rows(x: Array, y: Array, geometry: "Geometry", product: Product = _long_product) -> Array:
    """Products over positions: images shifted along the last axes against maps shifted along the first, in parts."""
    (window, *others), (spacing, *_) = geometry.window, geometry.dilation
    reach = spacing * (window - 1)

    def part(images: Array, maps: Array) -> Array:
        padded = _padded(images, geometry)
        seen = [
            padded[(slice(None), slice(None), *at)]
            for at in (
                [slice(t * d, t * d + o) for t, d, o in zip(place, geometry.dilation[1:], y.shape[2:-1], strict=True)]
                for place in itertools.product(*map(range, others))
            )
        ]
        tall = jnp.pad(maps, ((0, 0), (reach, reach), *[(0, 0)] * (y.ndim - 2)))
        length = padded.shape[1]
        moved = [tall[:, reach - t * spacing : reach - t * spacing + length] for t in range(window)]
        left, right = jnp.concatenate(seen, -1), jnp.concatenate(moved, -1)
        return product(left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1]))

    taps = math.prod(others)
    bytes_ = 4 * math.prod(y.shape[:-1]) * (taps * x.shape[-1] + window * y.shape[-1])
    total = _in_parts(part, x, y, bytes_)
    inputs, outputs = x.shape[-1], y.shape[-1]
    return total.reshape(*others, inputs, window, outputs).transpose(
        len(others) + 1, *range(len(others)), len(others), len(others) + 2
    )


def kernel_patches(x: Array, y: Array, geometry: "Geometry", product: Product = _long_product) -> Array:
    """Products over positions of all taps at once (im2col), in parts of the batch."""

    def part(images: Array, maps: Array) -> Array:
        padded = _padded(images, geometry)
        seen = jnp.concatenate([padded[(slice(None), *at)] for _, at in _taps(geometry)], -1)
        return product(seen.reshape(-1, seen.shape[-1]), maps.reshape(-1, maps.shape[-1]))

    bytes_ = 4 * math.prod(y.shape[:-1]) * (math.prod(geometry.window) * x.shape[-1] + y.shape[-1])
    return _in_parts(part, x, y, bytes_).reshape(*geometry.window, x.shape[-1], y.shape[-1])


def kernel_library_rows(x: Array, y: Array, geometry: "Geometry") -> Array:
    """`kernel_rows` with oneDNN's products."""
    return kernel_rows(x, y, geometry, onednn.product)


def kernel_library_patches(x: Array, y: Array, geometry: "Geometry") -> Array:
    """`kernel_patches` with oneDNN's products."""
    return kernel_patches(x, y, geometry, onednn.product)


def _in_parts(part: Callable[[Array, Array], Array], x: Array, y: Array, bytes_: int) -> Array:
    """The sum of a function over parts of a batch, none of which works on much more than a core's cache holds."""
    batch = x.shape[0]
    wanted = -(-bytes_ // _CHUNK)
    count = next((n for n in range(wanted, batch) if batch % n == 0), batch) if wanted > 1 else 1
    if count == 1:
        return part(x, y)
    split = tuple(a.reshape(count, batch // count, *a.shape[1:]) for a in (x, y))
    shape = jax.eval_shape(part, *(a[0] for a in split))
    start = jnp.zeros(shape.shape, shape.dtype)
    return jax.lax.scan(lambda total, one: (total + part(*one), None), start, split)[0]


def channels(form: str, geometry: "Geometry", a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, int]:
    """Channels of the images and of the output maps, from the shapes of the operands of a form."""
    return (b[-2] * geometry.groups if form == "input" else a[-1]), b[-1]


def possible(
    form: str, geometry: "Geometry", a: tuple[int, ...], b: tuple[int, ...], circumstances: Circumstances
) -> set[str]:
    """Names of the candidates that can compute a form for operands of these shapes."""
    inputs, outputs = channels(form, geometry, a, b)
    rank, unit_stride = len(geometry.space), set(geometry.strides) == {1}
    pointwise, depthwise = is_pointwise(geometry), is_depthwise(geometry, inputs, outputs)
    names = {"product"} if pointwise else {"shifted"} if depthwise else set()
    if form == "kernel":
        names |= {"library_product"} if pointwise else set()
        names |= {"tall"} if depthwise and inputs == outputs else set()
        names |= {"transposed"} if rank <= 2 and not pointwise else set()
        if geometry.groups == 1 and not pointwise:
            names |= {"patches", "library_patches"} | ({"rows", "library_rows"} if unit_stride else set())
    elif rank <= 3 and (form == "output" or unit_stride or set(geometry.dilation) == {1}):
        names |= {"library"}
    if _can_be_banded(form, geometry, a, inputs, outputs):
        names |= {"banded"}
    if circumstances.divided and form == "kernel":
        names -= LOOPS
    return names if circumstances.library else names - LIBRARY
