"""The least time that a program can take: its FLOPs and bytes held against what a chip can do (Williams et al. 2009).

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", CACM 52(4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from research.analysis.collectives import Collective
from research.analysis.topologies import Slice

# How often the multipliers for bfloat16 go over float32 numbers, by precision.matmul (jax.default_matmul_precision).
PASSES = {"default": 1, "high": 3, "highest": 6}


@dataclass(frozen=True)
class Peaks:
    """What one device can do in a second; `interconnect` in bytes that leave it (None: not known, not counted)."""

    flops: float
    bandwidth: float
    interconnect: float | None
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class Times:
    """Seconds that each part of a step takes by itself."""

    compute: float
    memory: float
    interconnect: float

    @property
    def step(self) -> float:
        """Of a step in which they all overlap."""
        return max(self.compute, self.memory, self.interconnect)

    @property
    def apart(self) -> float:
        """Of a step that says nothing while it computes."""
        return max(self.compute, self.memory) + self.interconnect

    @property
    def binds(self) -> str:
        """Which of them it is that makes the step as long as it is."""
        return max(("compute", "memory", "interconnect"), key=lambda name: getattr(self, name))


def times(flops: float, accessed: float, collectives: Sequence[Collective], *, devices: int, peaks: Peaks) -> Times:
    """What of one device's step takes how long: `flops` and bytes `accessed` by it, and what `devices` say."""
    sent = sum(collective.sent(devices) for collective in collectives)
    between = sent / peaks.interconnect if peaks.interconnect else 0.0
    return Times(flops / peaks.flops, accessed / peaks.bandwidth, between)


def published(wanted: Slice, *, compute: str, matmul: str) -> Peaks:
    """The peaks of a chip of a slice, for a network that computes in `compute` with `matmul` products."""
    chip = wanted.chip
    passes = 1 if compute == "bfloat16" else PASSES[matmul]
    rate = chip.flops / passes
    lines = [
        f"{chip.flops / 1e12:g} TFLOP/s in bfloat16, {chip.bandwidth / 1e9:g} GB/s of HBM ({chip.source})",
        f"float32 products are {passes} bfloat16 pass{'es' if passes > 1 else ''} (precision.matmul {matmul})"
        if compute == "float32"
        else "products are in bfloat16",
    ]
    if wanted.chips == 1:
        return Peaks(rate, chip.bandwidth, None, tuple(lines))
    lines.append(f"{wanted.links} links of {chip.link / 1e9:g} GB/s each way from a chip, rings over all, no latency")
    return Peaks(rate, chip.bandwidth, wanted.links * chip.link, tuple(lines))
