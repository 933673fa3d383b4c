"""Which candidate computes a convolution on a CPU: the one that was fastest on the nearest measured shape.

The measurements are data (`measured.json`: seconds of every candidate on some two hundred shapes); the command that
takes them again is `python tools/measure_convolutions.py`.
"""

import functools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from research.nn.convolution import candidates
from research.nn.operation import Circumstances, Compute

if TYPE_CHECKING:
    from research.nn.convolution.primitive import Form, Geometry

MEASURED = Path(__file__).with_name("measured.json")
UNROLLED = 8  # members computed one after the other; more of them side by side are left to XLA's grouped convolution


def choose(
    circumstances: Circumstances,
    a: jax.ShapeDtypeStruct,
    b: jax.ShapeDtypeStruct,
    *,
    form: "Form",
    geometry: "Geometry",
) -> Compute | None:
    """How to compute one form for operands of these shapes; None: natively."""
    if (
        geometry.members > UNROLLED
        or a.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16)
        or 0 in (*a.shape, *b.shape)
    ):
        return None
    one, other = (x.shape[int(geometry.members > 0) :] for x in (a, b))
    name = fastest(form, geometry, one, other, circumstances)
    if name == "native":
        return None
    return functools.partial(_each, getattr(candidates, f"{form}_{name}"), geometry)


def _each(candidate: candidates.Candidate, geometry: "Geometry", a: Array, b: Array) -> Array:
    """The candidate on the operands of every member, in float32."""
    kept, a, b = a.dtype, a.astype(jnp.float32), b.astype(jnp.float32)
    if not geometry.members:
        return candidate(a, b, geometry).astype(kept)
    return jnp.stack([candidate(one, other, geometry) for one, other in zip(a, b, strict=True)]).astype(kept)


def fastest(
    form: "Form", geometry: "Geometry", a: tuple[int, ...], b: tuple[int, ...], circumstances: Circumstances
) -> str:
    """The name of the candidate that is fastest on the nearest measured shape, of those that can compute this one."""
    possible = {"native", *candidates.possible(form, geometry, a, b, circumstances)}
    if len(possible) == 1:
        return "native"
    kind, point = described(form, geometry, a, b)
    rows = [
        row for row in _measured() if row["form"] == form and row["kind"] == kind and possible & row["seconds"].keys()
    ]
    if not rows:
        return "native"
    near = min(rows, key=lambda row: math.dist(row["at"], point))
    return min(possible & near["seconds"].keys(), key=near["seconds"].__getitem__)


@functools.cache
def _measured() -> list[dict[str, Any]]:
    return json.loads(MEASURED.read_text())["rows"]


def described(
    form: "Form", geometry: "Geometry", a: tuple[int, ...], b: tuple[int, ...]
) -> tuple[str, tuple[float, ...]]:
    """The kind of a convolution, and where it lies among those of its kind: logarithms (base 2) of its sizes.

    These are: images in the batch, output positions of one, channels of a group in and out, taps, stride.
    """
    inputs, outputs = candidates.channels(form, geometry, a, b)
    groups = geometry.groups
    kind = "dense" if groups == 1 else "grouped"
    if candidates.is_pointwise(geometry):
        kind = "pointwise"
    elif candidates.is_depthwise(geometry, inputs, outputs):
        kind, groups = "depthwise", 1
    sizes = (
        a[0],
        math.prod(geometry.out),
        inputs // groups,
        outputs // groups,
        math.prod(geometry.window),
        math.prod(geometry.strides),
    )
    return kind, tuple(round(math.log2(max(size, 1)), 3) for size in sizes)
