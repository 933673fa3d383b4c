"""Every distinct convolution of the catalogue, forward and both gradients: ours against XLA's own, timed in turns.

    python -m benchmarks.convolutions                           # all; about two hours on 2 cores
    python -m benchmarks.convolutions --every 20                # each twentieth; some six minutes
    python -m benchmarks.convolutions --filter "mobilenet*"     # those of the variants so named
    python -m benchmarks.convolutions --list                    # only say which

Shapes are found by tracing each variant at its own resolution. The batch is chosen so that a call takes milliseconds.
`stock` is `lax.conv_general_dilated` with XLA's default flags in a process of its own. Prints how many times as long it
takes as ours, as a distribution for each of the three, and every shape at which ours is slower; what is close to 1 is
timed in three times as many rounds first. `--out FILE` keeps every ratio as JSON.
"""

import argparse
import fnmatch
import json
import math
import os
import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from benchmarks.alternating import Side, alternate, ratio
from research import models
from research.scaling.multiply_adds import sizes, stride
from research.testing import model_laws

PROGRAMS = ("output", "images", "kernel")
CLOSE = 1.05  # below this ratio, more rounds tell whether ours is slower
ROUNDS = 5
MULTIPLY_ADDS, ELEMENTS, BATCH = 2e8, 2**22, 128  # of a call, at most


@dataclass(frozen=True, order=True)
class Shape:
    """A convolution, but for its batch; sizes in pixels, one for each axis."""

    space: tuple[int, ...]
    window: tuple[int, ...]
    channels: int
    features: int
    groups: int
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    @property
    def out(self) -> tuple[int, ...]:
        """Size of the output maps."""
        rows = zip(self.space, self.window, self.strides, self.padding, self.dilation, strict=True)
        return tuple((n + low + high - d * (k - 1) - 1) // s + 1 for n, k, s, (low, high), d in rows)

    @property
    def batch_size(self) -> int:
        """The power of two with which a call is long enough to be timed, and fits in memory."""
        macs = math.prod((*self.out, *self.window, self.channels // self.groups, self.features))
        elements = math.prod(self.space) * self.channels + math.prod(self.out) * self.features
        return 2 ** int(math.log2(max(1, min(MULTIPLY_ADDS / macs, ELEMENTS / elements, BATCH))))

    def __str__(self) -> str:
        name = f"{sizes(self.window)}{stride(self.strides)} {self.channels}->{self.features} on {sizes(self.space)}"
        name += f" g={self.groups}" if self.groups > 1 else ""
        name += f" d={sizes(self.dilation)}" if max(self.dilation) > 1 else ""
        return f"{name} pad {','.join(str(low) if low == high else f'{low}+{high}' for low, high in self.padding)}"


def of_variant(name: str) -> set[Shape]:
    """The convolutions of a variant, traced by shape. A transposed one is a gradient of another, and left out."""
    module, shape = models.create(name), models.variant(name).input_shape
    _, variables = model_laws.initial_shapes(module, shape)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    traced = jax.make_jaxpr(lambda v, x: module.apply(v, x, train=False))(variables, images)
    return {made for eqn in _convolutions(traced.jaxpr) if (made := _shape(eqn)) is not None}


def _convolutions(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """The native convolutions in a jaxpr and in those inside of it."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "conv_general_dilated":
            yield eqn
        for value in eqn.params.values():
            for body in value if isinstance(value, tuple | list) else (value,):
                if isinstance(body, core.Jaxpr | core.ClosedJaxpr):
                    yield from _convolutions(body.jaxpr if isinstance(body, core.ClosedJaxpr) else body)


def _shape(eqn: core.JaxprEqn) -> Shape | None:
    images, kernel = (var.aval.shape for var in eqn.invars)
    params, numbers = eqn.params, eqn.params["dimension_numbers"]
    if max(params["lhs_dilation"], default=1) > 1 or not params["window_strides"]:
        return None
    return Shape(
        space=tuple(images[axis] for axis in numbers.lhs_spec[2:]),
        window=tuple(kernel[axis] for axis in numbers.rhs_spec[2:]),
        channels=images[numbers.lhs_spec[1]],
        features=kernel[numbers.rhs_spec[0]],
        groups=params["feature_group_count"],
        strides=tuple(params["window_strides"]),
        padding=tuple(tuple(pair) for pair in params["padding"]),
        dilation=tuple(params["rhs_dilation"]),
    )


def of_catalogue(pattern: str = "*") -> dict[Shape, str]:
    """Every distinct convolution, sorted, with the first variant that has it."""
    found: dict[Shape, str] = {}
    for name in fnmatch.filter(models.names(), pattern):
        for shape in of_variant(name):
            found.setdefault(shape, name)
    return dict(sorted(found.items()))


def measure(shape: Shape, ours: Side, stock: Side) -> dict[str, float]:
    """How many times as long stock takes, for each of `PROGRAMS`."""
    spec = {**asdict(shape), "batch_size": shape.batch_size}
    for side in (ours, stock):
        side.prepare(spec)
    ratios = {}
    for program in PROGRAMS:
        timers = {side.name: side.timer(program) for side in (ours, stock)}
        taken = alternate(timers, budget=0.0)
        if ratio(taken["ours"], taken["stock"])[0] < CLOSE:
            taken = alternate(timers, budget=math.inf, most=3 * ROUNDS)
        ratios[program] = ratio(taken["ours"], taken["stock"])[0]
    return ratios


def summary(measured: Iterable[tuple[str, str, dict[str, float]]]) -> Iterator[str]:
    """The lines printed of (shape, variant, ratios): distributions, then what ours is slower at."""
    measured = list(measured)
    yield f"stock / ours{'least':>16}{'5%':>8}{'median':>8}{'95%':>8}{'mean':>8}{'below 1':>9}"
    for program in PROGRAMS:
        ratios = sorted(found[program] for _, _, found in measured)
        low, high = (ratios[round(q * (len(ratios) - 1))] for q in (0.05, 0.95))
        shown = (ratios[0], low, statistics.median(ratios), high, statistics.geometric_mean(ratios))
        below = sum(r < 1 for r in ratios)
        yield f"{program:<20}{''.join(f'{value:8.2f}' for value in shown)} {below:4d}/{len(ratios)}"
    slower = [(r, p, shape, name) for shape, name, found in measured for p, r in found.items() if r < 1]
    yield from (f"  {r:.2f} {p:<7} {shape}  ({name})" for r, p, shape, name in sorted(slower))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="*", metavar="GLOB", help="of variants")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each Nth of the sorted shapes")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a JSON object for each shape")
    words = parser.parse_args()
    chosen = list(of_catalogue(words.filter).items())[:: words.every]
    if words.list or not chosen:
        print("\n".join(f"{shape}  ({name})" for shape, name in chosen) or f"no variant matches {words.filter!r}")
        return
    module = [sys.executable, "-m", "benchmarks.sides.convolution"]
    # Neither side has flags of the user's; the platform is the same for both.
    plain: dict[str, str | None] = {"XLA_FLAGS": None, "CONVSCALE_LOWERING": None}
    plain["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
    rows: list[tuple[str, str, dict[str, float]]] = []
    with Side("ours", module, plain) as ours, Side("stock", [*module, "--native"], plain) as stock:
        for shape, name in chosen:
            rows.append((str(shape), name, measure(shape, ours, stock)))
            if sys.stderr.isatty():
                print(f"{len(rows)}/{len(chosen)} {rows[-1]}", file=sys.stderr)
            if words.out:
                kept: dict[str, Any] = {**asdict(shape), "batch_size": shape.batch_size, "variant": name}
                with words.out.open("a") as file:
                    file.write(json.dumps({**kept, "ratios": rows[-1][2]}) + "\n")
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
