#!/usr/bin/env python
"""Measure every way to compute a convolution on this machine, and keep the figures that the CPU's lowering goes by.

    python tools/measure_convolutions.py [--rounds 5] [--kind KIND] [--form FORM]
        [--out FILE]

For each shape below and each of its three forms, all candidates (`research.nn.convolution.candidates`) are timed in
turns, `--rounds` times; the shortest time of each is kept, as what disturbs a measurement only ever adds. About 25
minutes on 2 cores. Run it where nothing else runs, after a new jaxlib or on another kind of machine.
"""

import argparse
import functools
import itertools
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from research import backend

backend.set_up()

import jax  # noqa: E402
import jaxlib  # noqa: E402

from research.nn.convolution import candidates, cpu  # noqa: E402
from research.nn.convolution.primitive import Form, Geometry, native  # noqa: E402
from research.nn.operation import Circumstances  # noqa: E402

FORMS: tuple[Form, ...] = ("output", "input", "kernel")
FLOPS = 1.5e9  # of one call, about: some ten milliseconds


class Shape(NamedTuple):
    """A convolution of square images; `groups` 0: depthwise."""

    side: int
    inputs: int
    outputs: int
    window: int = 1
    stride: int = 1
    groups: int = 1

    @property
    def kind(self) -> str:
        """As `cpu.described` says it."""
        x, w = (1, self.side, self.side, self.inputs), (self.window, self.window, 1, self.outputs)
        return cpu.described("output", self.geometry, x, w)[0]

    @property
    def geometry(self) -> Geometry:
        """With the padding that keeps the size at stride 1."""
        pad, groups = (self.window - 1) // 2, self.groups or self.inputs
        side, window, stride = ((value,) * 2 for value in (self.side, self.window, self.stride))
        return Geometry(side, window, stride, ((pad, pad),) * 2, (1, 1), groups)


def shapes() -> Iterator[Shape]:
    """Sizes as they occur in the catalogue: many channels go with few positions."""
    pointwise = [(112, 32, 16), (56, 24, 144), (56, 64, 256), (56, 256, 64), (28, 192, 32), (28, 512, 128)]
    pointwise += [(14, 96, 576), (14, 1024, 256), (7, 320, 1280), (7, 2048, 512), (32, 16, 32), (8, 192, 10)]
    yield from itertools.starmap(Shape, pointwise)
    yield from (Shape(side, c, 2 * c, stride=2) for side, c in ((32, 16), (56, 256), (28, 512), (14, 1024)))
    for window, stride in ((3, 1), (3, 2), (5, 1), (5, 2), (7, 1)):
        for side, c in ((112, 32), (56, 144), (28, 192), (14, 576), (7, 960)):
            yield Shape(side, c, c, window, stride, 0)
    for stride, (side, c, width) in itertools.product(
        (1, 2), ((56, 128, 4), (28, 256, 8), (14, 512, 16), (7, 1024, 32))
    ):
        yield Shape(side, c, c, 3, stride, c // width)
    dense = ((224, 64), (112, 32), (112, 64), (56, 64), (56, 128), (28, 128), (14, 256), (14, 512), (7, 512))
    for side, c in (*dense, (32, 16), (16, 32), (8, 64), (32, 64), (16, 128), (8, 256)):
        yield Shape(side, c, c, 3)
        yield Shape(side, c, 2 * c, 3, 2)
    yield from (Shape(side, c, c, 5) for side, c in ((28, 32), (14, 64), (14, 192), (35, 48)))
    yield from (Shape(side, 128, 32, 3) for side in (56, 28, 14))
    for side, c in ((28, 4), (14, 4), (28, 8), (14, 8), (7, 16), (14, 16), (32, 8)):  # of micro studies
        yield Shape(side, c, c, 3)
        yield Shape(side, c, 2 * c, 3, 2)
    yield from itertools.starmap(Shape, [(28, 1, 8, 3), (14, 1, 8, 3), (32, 1, 6, 5), (14, 6, 16, 5)])
    yield from (Shape(side, 3, out, k, s) for side, out, k, s in STEMS)


STEMS = (
    (224, 64, 7, 2),
    (224, 32, 3, 2),
    (224, 64, 3, 1),
    (32, 16, 3, 1),
    (224, 96, 11, 4),
    (28, 6, 5, 1),
    (32, 64, 3, 1),
)


def batches(shape: Shape) -> list[int]:
    """A large batch, as small images come in, and a small one."""
    each = 2 * shape.geometry.out[0] ** 2 * shape.inputs * shape.outputs * shape.window**2 // shape.geometry.groups
    most = (1 << 26) // (4 * shape.side**2 * max(shape.inputs, shape.outputs))  # 64 MB of images or maps
    whole = max(1, min(int(FLOPS / each), most, 128))
    return sorted({1 << (whole.bit_length() - 1), 1 << max(whole.bit_length() - 4, 0)})


def seconds(
    form: Form, shape: Shape, batch: int, rounds: int
) -> tuple[tuple[str, tuple[float, ...]], dict[str, float]]:
    """Where the shape lies, and the shortest time of each candidate."""
    geometry = shape.geometry
    groups = geometry.groups
    x = (batch, *geometry.space, shape.inputs)
    w = (*geometry.window, shape.inputs // groups, shape.outputs)
    y = (batch, *geometry.out, shape.outputs)
    a, b = {"output": (x, w), "input": (y, w), "kernel": (x, y)}[form]
    names = ["native", *sorted(candidates.possible(form, geometry, a, b, Circumstances(backend.has_onednn())))]
    keys = jax.random.split(jax.random.key(0))
    operands = tuple(jax.random.normal(key, s) for key, s in zip(keys, (a, b), strict=True))
    calls = {}
    for name in names:
        fun = native(*operands, form=form, geometry=geometry)
        if name != "native":
            fun = functools.partial(getattr(candidates, f"{form}_{name}"), geometry=geometry)
        with backend.unkept():
            calls[name] = jax.jit(fun).lower(*operands).compile()
    taken = {name: float("inf") for name in names}
    for name, call in calls.items():
        taken[name] = _once(call, operands)  # also the first call, which sets things up
    best = min(taken.values())
    for _ in range(rounds):
        for name, call in calls.items():
            if taken[name] < 20 * best:  # what is that slow needs no second look
                taken[name] = min(taken[name], _once(call, operands))
        best = min(taken.values())
    return cpu.described(form, geometry, a, b), {name: float(f"{s:.3g}") for name, s in taken.items()}


def _once(call: jax.stages.Compiled, operands: tuple[jax.Array, ...]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(call(*operands))
    return time.perf_counter() - began


def _kept(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["rows"] if path.exists() else []


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", default="", help="only pointwise, depthwise, grouped or dense ones; keeps the rest")
    parser.add_argument("--form", default="", help="only output, input or kernel; keeps the rest")
    parser.add_argument("--out", type=Path, default=cpu.MEASURED)
    words = parser.parse_args()
    asked = lambda kind, form: words.kind in ("", kind) and words.form in ("", form)  # noqa: E731
    rows = [row for row in _kept(words.out) if not asked(row["kind"], row["form"])]
    for shape in dict.fromkeys(shapes()):
        for batch, form in itertools.product(batches(shape), FORMS):
            if not asked(shape.kind, form):
                continue
            (kind, at), taken = seconds(form, shape, batch, words.rounds)
            rows.append({"form": form, "kind": kind, "at": at, "seconds": taken})
            shown = ", ".join(f"{name} {1e3 * s:.2f}" for name, s in sorted(taken.items(), key=lambda item: item[1]))
            print(f"{form:<6} {kind:<9} {batch:>3} x {tuple(shape)}: {shown} ms", flush=True)
    where = {"jaxlib": jaxlib.__version__, "machine": platform.machine(), "cores": len(os.sched_getaffinity(0))}
    lines = ",\n".join(json.dumps(row) for row in rows)
    words.out.write_text(f'{{"measured": {json.dumps(where)}, "rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
