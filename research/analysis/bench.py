"""How fast networks are on this machine, forward and training: `launch.py bench`.

Each repeat also times a matrix product and a stream through memory, so that what the machine could do is known for the
same minutes. Achieved FLOPs are those of the network's multiply-adds (see `research.scaling.complexity`), 2 each, and
three times those of a forward pass in training: one for each gradient.
"""

import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from research.analysis import ceiling, workload
from research.analysis.workload import Prepared, Work
from research.errors import UserError
from research.scaling.complexity import Cost
from research.values import Options

PASSES = ("forward", "train")
SHORTEST = 0.05  # seconds of a repeat: shorter calls are made several times in a row


@dataclass(frozen=True)
class Measured:
    """What one `Work` took: wall seconds of each repeat, for it and for the two ceilings beside it."""

    work: Work
    cost: Cost
    prepared: Prepared
    seconds: tuple[float, ...]
    product_rates: tuple[float, ...]  # FLOP/s
    stream_rates: tuple[float, ...]  # bytes/s

    @property
    def flops_per_second(self) -> float:
        """Achieved, at the median."""
        return self.prepared.program.amount / float(np.median(self.seconds))

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values: seconds, bytes, FLOPs."""
        work, median, rate = self.work, float(np.median(self.seconds)), float(np.median(self.product_rates))
        device = jax.devices()[0]
        return {
            "model": work.model,
            "pass": PASSES[work.train],
            "batch_size": work.batch_size,
            "input_shape": list(work.input_shape),
            "num_classes": work.classes,
            "compute": work.compute,
            "options": dict(work.options),
            "platform": device.platform,
            "device_kind": device.device_kind,
            "threads": threads(),
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "repeats": len(self.seconds),
            "step_seconds": median,
            "step_seconds_quartiles": [float(np.percentile(self.seconds, q)) for q in (25, 75)],
            "images_per_second": work.batch_size / median,
            "compile_seconds": self.prepared.compile_seconds,
            "memory_bytes": self.prepared.memory.total,
            "memory": dict(vars(self.prepared.memory)),
            "peak_rss_bytes": self.prepared.peak_rss,
            "rss_growth_bytes": self.prepared.rss_growth,
            "params": self.cost.params,
            "macs": self.cost.macs,
            "activations": self.cost.activations,
            "flops": self.prepared.program.amount,
            "flops_per_second": self.flops_per_second,
            "matrix_product_flops_per_second": rate,
            "share_of_matrix_product": self.flops_per_second / rate,
            "stream_bytes_per_second": float(np.median(self.stream_rates)),
        }


def threads() -> int:
    """Cores that this process may use: what XLA's thread pool goes by."""
    if (asked := os.environ.get("NPROC", "")).isdigit():
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def works(
    fields: Mapping[str, Mapping[str, Any]], *, passes: Sequence[str], repeats: int, **same: Any
) -> list[tuple[Work, Cost]]:
    """Each model of `fields` (name -> its overrides) in each of `passes`, with its cost; `same`: of every `Work`.

    Raises `UserError` for words that cannot be measured, before anything compiles.
    """
    if repeats < 1:
        raise UserError(f"--repeats is {repeats}; expected a number at least 1")
    rows = [Work(name, p == "train", options=Options(own), **same) for name, own in fields.items() for p in passes]
    costs: dict[str, Cost] = {}
    for work in rows:
        costs[work.model] = costs.get(work.model) or workload.check(work)
    return [(work, costs[work.model]) for work in rows]


def measure(work: Work, cost: Cost, repeats: int) -> Measured:
    """Time `work` and, in turns with it, this machine's ceilings; `cost` is what `workload.check` gave."""
    prepared = workload.prepare(work, cost.macs)
    product = ceiling.matrix_product(jnp.dtype(work.compute))
    programs = (prepared.program, product, ceiling.stream())
    calls = [max(1, math.ceil(SHORTEST / program.seconds())) for program in programs]
    rounds = [[p.seconds(n) for p, n in zip(programs, calls, strict=True)] for _ in range(repeats)]
    own, products, streams = zip(*rounds, strict=True)
    rates = [tuple(p.amount / s for s in seconds) for p, seconds in zip(programs[1:], (products, streams), strict=True)]
    return Measured(work, cost, prepared, own, *rates)


def show(measured: Sequence[Measured], *, as_json: bool) -> str:
    """A table of 80 columns, or a JSON list with an object for each."""
    rows = [one.to_json() for one in measured]
    return json.dumps(rows, indent=2) if as_json else _table(rows)


HEADINGS = ("model", "pass", "px", "step ms", "quartiles", "images/s", "compile", "MB", "RSS", "GFLOP/s", "%")


def _table(rows: Sequence[dict[str, Any]]) -> str:
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
    for at, heading in enumerate(HEADINGS):
        table.add_column(heading, overflow="fold", justify="right" if at > 1 else "left", no_wrap=at > 0)
    for row in rows:
        grown = row["peak_rss_bytes"] if row["rss_growth_bytes"] is None else row["rss_growth_bytes"]
        low, high = (_short(1e3 * seconds) for seconds in row["step_seconds_quartiles"])
        table.add_row(
            row["model"],
            row["pass"],
            "x".join(map(str, dict.fromkeys(row["input_shape"][:-1]))),
            _short(1e3 * row["step_seconds"]),
            f"{low}-{high}",
            _short(row["images_per_second"]),
            f"{row['compile_seconds']:.1f} s",
            _short(row["memory_bytes"] / 1e6),
            _short(grown / 1e6),
            _short(row["flops_per_second"] / 1e9),
            f"{100 * row['share_of_matrix_product']:.0f}",
        )
    console = Console(file=io.StringIO(), width=80, color_system=None, highlight=False, emoji=False, markup=False)
    with console.capture() as capture:
        console.print(table)
    first = rows[0]
    ceilings = [_range(row[key] / 1e9 for row in rows) for key in _CEILINGS]
    lines = [line.rstrip() for line in capture.get().strip("\n").split("\n")]
    return "\n".join(
        [
            f"{first['device_kind']} ({first['threads']} cores), {first['compute']}, batch {first['batch_size']}, "
            f"medians of {first['repeats']}",
            *lines,
            "MB: arguments, outputs and temporaries; RSS: MB that the process grew by.",
            f"%: of a matrix product's {ceilings[0]} GFLOP/s beside it.",
            f"Memory streams at {ceilings[1]} GB/s.",
        ]
    )


_CEILINGS = ("matrix_product_flops_per_second", "stream_bytes_per_second")


def _range(values: Iterable[float]) -> str:
    """`95` where all are alike, else `95 to 112`."""
    shown = [_short(value) for value in sorted(values)]
    return shown[0] if shown[0] == shown[-1] else f"{shown[0]} to {shown[-1]}"


def _short(value: float) -> str:
    """A number of three digits or more: `0.451`, `12.3`, `1234`."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"
