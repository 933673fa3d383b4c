"""Ours against stock Flax and PyTorch: the forward pass and the train step of whole networks, timed in turns.

    python -m benchmarks.against                                # the table of targets; about 40 minutes on 2 cores
    python -m benchmarks.against --families                     # one network of every family; about 90 minutes
    python -m benchmarks.against --only "mobilenet_v2 *" --sides ours,stock,torch,torch-compile
    python -m benchmarks.against --only "resnet* train*" --sides ours,stock,stock-flax

Sides are processes of their own, on the same cores: `ours`; `stock`, the same networks as stock Flax computes them
(CONVSCALE_LOWERING=native, XLA's default flags); `stock-flax`, ResNet-20 and ResNet-50 written again with Flax's own
layers, to see that `stock` is as fast; `torch`, eager and channels last, and `torch-compile`, in the environment of
`make torch` (--torch-python names another); `torch-passive`, whose threads sleep while they wait: the threads of the
others spin, so that beside other work on the machine they are several times slower than they can be. Each row prints
how many times as long as ours the others take (ratio of medians, quartiles of the rounds), beside its target; compile
time (medians of `--compiles`, in turns), memory and grown resident memory as ours / stock; and how much of the
matrix-product rate, timed in the same rounds, ours achieves. `--out FILE` keeps all of it as JSON.
"""

import argparse
import fnmatch
import json
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.alternating import ROOT, Side, SideFailed, Spec, alternate, ratio

BUDGET = 60.0  # seconds of timing a row
BATCH, MULTIPLY_ADDS = 16, 2e10  # --families: of a batch, at most


@dataclass(frozen=True)
class Row:
    """A network and how it is used; `stock` and `torch`: how many times as fast ours is to be; 0: to be reported."""

    model: str
    train: bool
    batch_size: int
    resolution: int | None = 128
    stock: float = 0.0
    torch: float = 0.0
    reference: str | None = None  # torchvision's name of the same network

    @property
    def title(self) -> str:
        """What `--only` is held against."""
        size = "native size" if self.resolution is None else f"{self.resolution} px"
        return f"{self.model} {'train' if self.train else 'forward'} {size} batch {self.batch_size}"


def _same(model: str, train: bool, batch_size: int, resolution: int, stock: float, torch: float) -> Row:
    return Row(model, train, batch_size, resolution, stock, torch, reference=model)


TARGETS = (
    *(_same(m, False, 16, px, 8, 2) for m in ("mobilenet_v2", "efficientnet_b0") for px in (128, 224)),
    *(_same(m, True, 16, 128, 5, 1) for m in ("mobilenet_v2", "efficientnet_b0")),
    _same("resnet20", True, 128, 32, 2, 0.8),
    _same("resnet50", True, 16, 128, 2, 0.8),
    _same("densenet121", True, 16, 128, 1.3, 0.8),
    Row("googlenet_bn", True, 16, 128, 1.3, 0.8, reference="googlenet"),
    _same("vgg16", True, 8, 128, 1.3, 0.8),
    _same("inception_v3", True, 16, 128, 1.3, 0.8),
)


def families() -> Iterator[Row]:
    """The first variant of each file of the catalogue, at 128 pixels (sequences and volumes: their own size)."""
    from research import catalogue, models
    from research.scaling import complexity

    for module in catalogue.modules("research.models").values():
        for name in list(getattr(module, "VARIANTS", {}))[:1]:
            own = models.variant(name).input_shape
            shape = (128, 128, own[-1]) if len(own) == 3 else own
            macs = complexity.count(models.create(name), (1, *shape)).macs
            batch = next(b for b in (BATCH, BATCH // 2, BATCH // 4, 2) if b * macs <= MULTIPLY_ADDS or b == 2)
            for train in (False, True):
                yield Row(name, train, batch, 128 if len(own) == 3 else None, stock=1.0)


def commands(torch_python: str) -> dict[str, Side]:
    """Every side by its name, not started."""
    # Compile times are cold; only what a side says may be set, so that the sides differ in nothing else.
    plain: dict[str, str | None] = {
        "XLA_FLAGS": None,
        "CONVSCALE_LOWERING": None,
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    plain["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
    native = {**plain, "CONVSCALE_LOWERING": "native"}
    made = [Side("ours", [sys.executable, "-m", "benchmarks.sides.network"], plain)]
    made.append(Side("stock", [sys.executable, "-m", "benchmarks.sides.network"], native))
    made.append(Side("stock-flax", [sys.executable, "-m", "benchmarks.sides.stock_flax"], native))
    pytorch = [torch_python, "-m", "benchmarks.sides.pytorch"]
    made += [Side("torch", pytorch), Side("torch-compile", pytorch)]
    made.append(Side("torch-passive", pytorch, {"OMP_WAIT_POLICY": "passive"}))
    return {side.name: side for side in made}


def specification(row: Row, side: str) -> Spec | None:
    """What a side is asked to prepare; None where it has no such network."""
    spec: Spec = {"model": row.model, "train": row.train, "batch_size": row.batch_size, "resolution": row.resolution}
    if side == "stock-flax":
        from benchmarks import stock

        return spec if row.model in stock.NETWORKS else None
    if side.startswith("torch"):
        return {**spec, "model": row.reference, "compile": side == "torch-compile"} if row.reference else None
    return spec


def compare(row: Row, sides: Sequence[Side], budget: float, compiles: int = 1) -> dict[str, Any]:
    """Facts and seconds of each side that has the network, ours first; another that fails says why instead.

    Raises `SideFailed` where ours does.
    """
    result: dict[str, Any] = {"row": asdict(row), "facts": {}, "seconds": {}, "failed": {}}
    with ExitStack() as running:
        timers = {}
        for side in sides:
            spec = specification(row, side.name)
            if spec is None:
                continue
            try:
                result["facts"][side.name] = running.enter_context(side).prepare(spec)
            except SideFailed as error:
                if side.name == "ours":
                    raise
                result["failed"][side.name] = str(error)
                continue
            timers[side.name] = side.timer("step")
            if side.name == "ours":
                timers |= {what: side.timer(what) for what in ("product", "stream")}
        result["seconds"] = alternate(timers, budget=budget)
        again = [side for side in sides if side.name in ("ours", "stock") and side.name in timers]
        result["compiles"] = {side.name: [result["facts"][side.name]["compile_seconds"]] for side in again}
        for _ in range(compiles - 1 if len(again) > 1 else 0):
            for side in again:
                result["compiles"][side.name].append(side.timer("compile")(1))
    return result


def lines(row: Row, result: dict[str, Any]) -> Iterator[str]:
    """What is printed of a row."""
    facts, seconds = result["facts"], result["seconds"]
    ours, own = facts["ours"], statistics.median(seconds["ours"])
    low, _, high = statistics.quantiles(seconds["ours"], n=4, method="inclusive")
    rate = ours["product_flops"] / statistics.median(seconds["product"])
    stream = ours["stream_bytes"] / statistics.median(seconds["stream"])
    yield f"{row.title}: ours {1e3 * own:.1f} ms ({1e3 * low:.1f} to {1e3 * high:.1f})"
    yield (
        f"  {ours['flops'] / own / 1e9:.1f} GFLOP/s, {100 * ours['flops'] / own / rate:.0f}% of a matrix product's "
        f"{rate / 1e9:.0f}; memory streams at {stream / 1e9:.1f} GB/s"
    )
    for name in [name for name in facts if name != "ours"]:
        middle, low, high = ratio(seconds["ours"], seconds[name])
        target = row.stock if name == "stock" else row.torch if name == "torch" else 0.0
        aim = f"  target {target:g}: {'reached' if middle >= target else 'MISSED'}" if target else ""
        yield f"  {name:<14} {middle:6.2f} times as long ({low:.2f} to {high:.2f}){aim}"
    for name in [name for name in ("stock", "stock-flax") if name in facts]:
        compiled = [
            statistics.median(result["compiles"].get(side, [facts[side]["compile_seconds"]])) for side in ("ours", name)
        ]
        parts = [("memory", "memory_bytes"), ("resident", "rss_growth_bytes")]
        shown = [f"compile time {compiled[0] / compiled[1]:.2f}"]
        shown += [f"{part} {ours[key] / facts[name][key]:.2f}" for part, key in parts if facts[name][key]]
        yield f"  ours / {name}: {', '.join(shown)}"
    yield from (f"  {message}" for message in result["failed"].values())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", action="store_true", help="one network of every family, against stock alone")
    parser.add_argument("--only", default="*", metavar="GLOB", help='of "MODEL train|forward RESOLUTION px batch B"')
    parser.add_argument("--sides", default="ours,stock,torch")
    parser.add_argument(
        "--budget", type=float, default=BUDGET, metavar="SECONDS", help="of timing a row; 3 rounds least"
    )
    parser.add_argument(
        "--compiles", type=int, default=3, help="how often each of ours and stock is compiled, in turns"
    )
    parser.add_argument("--torch-python", default=str(ROOT / ".venv-parity/bin/python"), metavar="PATH")
    parser.add_argument("--list", action="store_true", help="only say which rows there are")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a JSON object for each row")
    words = parser.parse_args()
    available = commands(words.torch_python)
    names = words.sides.split(",")
    if unknown := [name for name in names if name not in available]:
        parser.error(f"unknown side {unknown[0]!r}; expected some of {', '.join(available)}")
    rows = [row for row in (families() if words.families else TARGETS) if fnmatch.fnmatch(row.title, words.only)]
    if not rows:
        parser.error(f"no row matches {words.only!r}; a row is called, say, {TARGETS[0].title!r}")
    if words.list:
        print("\n".join(row.title for row in rows))
        return
    sides = [available["ours"], *(available[name] for name in names if name != "ours")]
    for row in rows:
        try:
            result = compare(row, sides, words.budget, words.compiles)
        except SideFailed as error:
            print(f"{row.title}: {error}", flush=True)
            continue
        print("\n".join(lines(row, result)), flush=True)
        if words.out:
            with words.out.open("a") as kept:
                kept.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
