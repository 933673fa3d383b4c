"""What a run will need and how fast it can be, before it is paid for: its train step, compiled ahead of time.

The very step that a run compiles, from shapes alone: no example is read and no parameter made. For the chips of a TPU
slice that is not here, or for the devices that are.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from research import data
from research.analysis import ceiling, collectives, footprint, roofline, topologies, workload
from research.analysis.collectives import Collective
from research.analysis.footprint import Footprint
from research.analysis.roofline import Peaks, Times
from research.analysis.topologies import Slice
from research.config import Config
from research.errors import UserError
from research.scaling import complexity
from research.training import programs, resolve, transfer
from research.training.resolve import Resolved

_SIDE, _ELEMENTS, _TRIES = 1024, 2**23, 3  # of the products and arrays that this machine is measured with: moments


@dataclass(frozen=True)
class Way:
    """A step compiled for one way of using the devices. All is per device and step; None where it did not compile."""

    name: str
    config: Config
    memory: Footprint
    needed: int  # bytes: the total of `memory`, or what the compiler says that it lacks
    available: int  # bytes
    flops: float | None
    bytes_accessed: float | None
    collectives: tuple[Collective, ...] | None
    times: Times | None
    compile_seconds: float

    @property
    def fits(self) -> bool:
        """Whether there is memory for it."""
        return self.times is not None and self.needed <= self.available


@dataclass(frozen=True)
class Plan:
    """What a config means on some devices: a step for each way of using them."""

    config: Config
    topology: str | None  # None: the devices at hand
    device: str
    devices: int
    hosts: int
    steps: int  # of the whole budget
    ways: tuple[Way, ...]
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]

    def images_per_second(self, way: Way) -> float | None:
        """Of all devices together, at the step time of the roofline."""
        return None if way.times is None else self.config.data.batch_size / way.times.step

    def hours(self, way: Way) -> float | None:
        """Of training for the whole budget, at the step time of the roofline."""
        return None if way.times is None else self.steps * way.times.step / 3600


def plan(cfg: Config, wanted: Slice | None = None, *, say: Callable[[str], None] = lambda line: None) -> Plan:
    """Compile the train step of `cfg` for a slice, or for the devices at hand (None), and account for it.

    A step that does not fit is a result. Raises `UserError` as a run would, but for data that are not here and whose
    description is published. `say` is told what is compiled, which may take minutes.
    """
    devices = tuple(jax.devices()) if wanted is None else topologies.devices(wanted)
    if wanted is not None and cfg.parallelism.devices not in (None, wanted.chips):
        raise UserError(
            f"parallelism.devices is {cfg.parallelism.devices}, and {wanted.name} has {wanted.chips} chips; expected "
            f"{wanted.chips}, or nothing"
        )
    stored, missing = data.described(transfer.data_config(cfg))
    chosen = [
        (name, resolve.resolve(way, devices=devices, stored=stored))
        for name, way in _ways(cfg, cfg.parallelism.devices or len(devices))
    ]
    first = chosen[0][1]
    used = first.layout.devices
    kind = f"TPU {wanted.chip.name}" if wanted else used[0].device_kind
    peaks, available = (_measured(cfg, used), _memory(used)) if wanted is None else _published(cfg, wanted)
    ways = []
    for name, resolved in chosen:
        say(f"compiling the train step of {cfg.model.name} for {len(used)} x {kind}, {name}")
        pipeline = data.shapes(resolved.data, resolved.config.augmentation, stored=stored)
        # A program for devices that are not here can be written to the persistent cache, and not read again.
        with workload.uncached() if wanted else contextlib.nullcontext():
            ways.append(_way(name, resolved, pipeline, peaks, available))
    return Plan(
        config=cfg,
        topology=wanted.name if wanted else None,
        device=kind,
        devices=len(used),
        hosts=wanted.hosts if wanted else len({device.process_index for device in used}),
        steps=first.steps,
        ways=tuple(ways),
        assumptions=(*peaks.assumptions, *_counting(first)),
        notes=(*([missing] if missing else []), *_left_out(cfg, len(used))),
    )


def _splits(cfg: Config) -> bool:
    """Whether the devices may share out what a run carries from step to step."""
    return cfg.parallelism.mode == "jit" and cfg.parallelism.batch_norm == "synchronised"


def _ways(cfg: Config, devices: int) -> Iterator[tuple[str, Config]]:
    """Name and config of each way to compare: whole copies and, where the config may, shared out ones."""
    copies = "data-parallel" if cfg.parallelism.mode == "jit" else "pmap"
    if devices == 1 or not _splits(cfg):
        yield ("one device" if devices == 1 else copies), cfg
        return
    yield copies, dataclasses.replace(cfg, parallelism=dataclasses.replace(cfg.parallelism, sharding="replicated"))
    yield "fsdp", dataclasses.replace(cfg, parallelism=dataclasses.replace(cfg.parallelism, sharding="fsdp"))


def _left_out(cfg: Config, devices: int) -> list[str]:
    if devices == 1 or _splits(cfg):
        return []
    return ["no fsdp: it needs parallelism.mode jit and parallelism.batch_norm synchronised"]


def _way(name: str, resolved: Resolved, pipeline: data.Pipeline, peaks: Peaks, available: int) -> Way:
    """Compile one step and account for it; where the compiler finds it too large, it is one that does not fit."""
    cfg, layout = resolved.config, resolved.layout
    arguments = programs.train_arguments(resolved, pipeline)
    began = time.perf_counter()
    try:
        with resolve.matmul_precision(cfg):
            compiled = programs.compile_train(resolved, pipeline, *arguments[:2])
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        known, said = footprint.of(arguments), footprint.exhausted(str(error))
        if said is not None and said.temporaries:
            known = dataclasses.replace(known, temporaries=said.needed)
        needed = known.total if said is None or said.temporaries else said.needed
        limit = available if said is None else said.available
        return Way(name, cfg, known, needed, limit, None, None, None, None, time.perf_counter() - began)
    seconds = time.perf_counter() - began
    memory = footprint.of(arguments, compiled)
    loops = 1 if layout.step_parts.unroll else layout.parts
    cost: Any = compiled.cost_analysis()
    once = 2.0 * memory.state if loops > 1 else 0.0  # the update, after the loop: the state is read and written
    accessed = once + loops * max(cost["bytes accessed"] - once, 0.0)
    # XLA counts what is in a loop once, and what a library does not at all.
    flops = max(cost["flops"], _network(resolved) * cfg.data.batch_size / len(layout.devices))
    told = collectives.collectives(compiled.as_text() or "", devices=len(layout.devices))
    times = roofline.times(flops, accessed, told, devices=len(layout.devices), peaks=peaks)
    return Way(name, cfg, memory, memory.total, available, flops, accessed, told, times, seconds)


def _network(resolved: Resolved) -> int:
    """FLOPs that the network takes for one example: forward, and twice that backward where all of it learns."""
    model = resolve.build_model(resolved.config, num_classes=resolved.task.num_outputs)
    forward = complexity.count(model, (1, *resolved.info.shape)).conventions["flops_xla"]
    return forward if resolved.frozen.weights else 3 * forward


def _counting(resolved: Resolved) -> tuple[str, ...]:
    """What the figures of a step take for granted, whatever the device."""
    passes = "once" if resolved.frozen.weights else "3 times"
    return (
        f"FLOPs as XLA counts them, at least {passes} those of the forward pass",
        "bytes as XLA counts them: with what never leaves the chip, without libraries, its own loops once",
        "a step's parts overlap; no input, evaluation or checkpoints: a run takes longer",
    )


def _published(cfg: Config, wanted: Slice) -> tuple[Peaks, int]:
    peaks = roofline.published(wanted, compute=cfg.precision.compute, matmul=cfg.precision.matmul)
    return peaks, wanted.chip.memory


def _measured(cfg: Config, devices: tuple[Any, ...]) -> Peaks:
    """Peaks of a device at hand: the best of a few products and copies. Devices that are one processor share it."""
    processor = devices[0].platform == "cpu"
    with resolve.matmul_precision(cfg):
        product = ceiling.matrix_product(jnp.dtype(cfg.precision.compute), _SIDE if processor else None)
    copies = ceiling.stream(_ELEMENTS if processor else ceiling.ELEMENTS)
    share = len(devices) if processor else 1
    flops, bandwidth = (
        program.amount / min(program.seconds() for _ in range(_TRIES)) / share for program in (product, copies)
    )
    lines = [f"measured just now: {flops / 1e9:.3g} GFLOP/s in {cfg.precision.compute}, {bandwidth / 1e9:.3g} GB/s"]
    lines += [f"{share} devices share this processor and its memory"] if share > 1 else []
    lines += ["what devices send each other is not counted"] if len(devices) > 1 else []
    return Peaks(flops, bandwidth, None, tuple(lines))


def _memory(devices: tuple[Any, ...]) -> int:
    """Bytes that a device at hand has: what it says itself, else its share of the machine's."""
    said = devices[0].memory_stats() or {}
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(said.get("bytes_limit", machine // len(devices)))
