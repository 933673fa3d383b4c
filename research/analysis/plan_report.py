"""A plan to be read: as a table of at most 80 columns, or as JSON values; and what may help where it does not fit."""

import dataclasses
import textwrap
from typing import Any

from research import models
from research.analysis.footprint import Footprint
from research.analysis.plan import Plan, Way
from research.config import Config
from research.training import resolve

_LABEL, _CELL, _WIDTH = 30, 22, 80
_SHOWN = {
    "parameters": "parameters",
    "optimizer_state": "optimizer state",
    "batch_statistics": "batch statistics",
    "averaged_weights": "averaged weights",
    "other_state": "key, step, sums",
    "resident_data": "resident data",
    "feed": "batch",
    "outputs": "outputs",
    "donated": "in place of arguments",
    "temporaries": "temporaries",
    "code": "code",
    "beside": "kept beside the step",
}


def size(count: float | None) -> str:
    """Bytes in the largest binary unit that leaves a whole; a dash where they are not known."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1024
    raise AssertionError


def amount(count: float | None, unit: str) -> str:
    """A decimal number with its prefix; a dash where it is not known."""
    if count is None:
        return "-"
    for prefix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= scale:
            return f"{count / scale:.4g} {prefix}{unit}"
    return f"{count:.4g} {unit}".rstrip()


def rate(count: float | None) -> str:
    """A number of three figures or more; a dash where it is not known."""
    return "-" if count is None else f"{count:,.0f}" if count >= 100 else f"{count:.3g}"


def duration(seconds: float | None) -> str:
    """Seconds in a unit that suits them."""
    if seconds is None:
        return "-"
    for unit, scale in (("h", 3600), ("min", 60)):
        if seconds >= 2 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return (
        f"{seconds:.3g} s"
        if seconds >= 1
        else f"{seconds * 1e3:.3g} ms"
        if seconds >= 1e-3
        else f"{seconds * 1e6:.3g} us"
    )


def as_dict(plan: Plan, title: str) -> dict[str, Any]:
    """All that the table shows, as JSON values: bytes, FLOPs and seconds, per device and step."""
    return {
        "config": title,
        "topology": plan.topology,
        "device": plan.device,
        "chips": plan.devices,
        "hosts": plan.hosts,
        "model": plan.config.model.name,
        "batch_size": plan.config.data.batch_size,
        "steps": plan.steps,
        "ways": [_way(plan, way) for way in plan.ways],
        "advice": advice(plan),
        "assumptions": list(plan.assumptions),
        "notes": list(plan.notes),
    }


def _way(plan: Plan, way: Way) -> dict[str, Any]:
    memory = dataclasses.asdict(way.memory) | {"arguments": way.memory.arguments, "total": way.memory.total}
    found: dict[str, Any] = {
        "name": way.name,
        "configured": way.config == plan.config,
        "fits": way.fits,
        "needed_bytes": way.needed,
        "available_bytes": way.available,
        "memory": memory,
        "flops": way.flops,
        "bytes_accessed": way.bytes_accessed,
        "collectives": None if way.collectives is None else [dataclasses.asdict(one) for one in way.collectives],
        "roofline": None,
        "images_per_second": plan.images_per_second(way),
        "hours": plan.hours(way),
        "compile_seconds": way.compile_seconds,
    }
    if way.times is not None:
        found["roofline"] = {
            f"{part}_seconds": getattr(way.times, part)
            for part in ("compute", "memory", "interconnect", "step", "apart")
        } | {"binds": way.times.binds}
    return found


def advice(plan: Plan) -> list[str]:
    """What may make the config fit where it does not, as far as the plan shows it; empty where it fits."""
    own = next((way for way in plan.ways if way.config == plan.config), plan.ways[0])
    if own.fits:
        return []
    lines = [
        f"{other.name} fits: --parallelism.sharding {other.config.parallelism.sharding}"
        for other in plan.ways
        if other.fits
    ]
    memory = own.memory
    if memory.resident_data > own.available // 4:
        lines.append(f"the data take {size(memory.resident_data)} of each device: --data.input streaming")
    fixed = memory.state + memory.resident_data
    if fixed > own.available:  # whatever the batch
        return lines or [f"a run keeps {size(fixed)} from step to step: a chip with more memory"]
    if memory.arguments + memory.beside <= own.available:
        lines += _smaller_activations(own.config, plan.devices)
    unit = plan.devices * own.config.parallelism.accumulate * _together(own.config)
    if smaller := own.config.data.batch_size // (2 * unit) * unit:
        lines.append(f"a smaller batch, as --data.batch-size {smaller}, or more devices for this one")
    return lines


def _together(cfg: Config) -> int:
    """How many images must stay on one device."""
    return 2 if cfg.augmentation.mixup or cfg.augmentation.cutmix else 1


def _smaller_activations(cfg: Config, devices: int) -> list[str]:
    """What makes smaller what the step computes for its batch, of what this config can have."""
    lines, parts = [], 2 * cfg.parallelism.accumulate
    if not cfg.parallelism.remat and getattr(resolve.build_model(cfg, num_classes=2), "remat", None) is not None:
        lines.append("activations computed again: --parallelism.remat true")
    if cfg.data.batch_size % (parts * devices * _together(cfg)) == 0:
        lines.append(f"the batch in parts, one after the other: --parallelism.accumulate {parts}")
    if cfg.precision.compute == "float32" and "dtype" in models.fields(cfg.model.name):
        lines.append("activations of half the size: --precision.compute bfloat16")
    return lines


def table(plan: Plan, title: str) -> str:
    """The plan as lines of at most 80 characters: a column for each way of using the devices."""
    cfg = plan.config
    many = f"{plan.devices} x {plan.device}, {plan.hosts} host{'s' if plan.hosts > 1 else ''}"
    head = [
        f"{title} on {plan.topology or 'the devices at hand'}: {many}",
        f"{cfg.model.name}, {cfg.precision.compute}, batch {cfg.data.batch_size:,} "
        f"({cfg.data.batch_size // plan.devices:,} a device), {plan.steps:,} steps",
    ]
    body = [_row("", [way.name + (" *" if len(plan.ways) > 1 and way.config == cfg else "") for way in plan.ways])]
    body += ["memory of a device", *_memory(plan.ways)]
    body += ["one step", *_step(plan)] if any(way.times for way in plan.ways) else []
    tail = ["* as the config says"] if len(plan.ways) > 1 else []
    for way in plan.ways:
        if not way.fits:
            tail.append(f"{way.name} does not fit: {size(way.needed)} needed, {size(way.available)} available")
    said = [*(f"may help: {line}" for line in advice(plan)), *(f"assumed: {line}" for line in plan.assumptions)]
    said += [f"note: {line}" for line in plan.notes]
    lines = [*head, "", *body, "", *tail, *said]
    return "\n".join(
        part
        for line in lines
        for part in (
            textwrap.wrap(line, _WIDTH, subsequent_indent="  ", drop_whitespace=True) if len(line) > _WIDTH else [line]
        )
    )


def _row(label: str, cells: list[str]) -> str:
    return (label.ljust(_LABEL) + "".join(cell.rjust(_CELL) for cell in cells)).rstrip()


def _memory(ways: tuple[Way, ...]) -> list[str]:
    """A row for each kind of memory that any way has, and what they come to."""
    rows = []
    for field in dataclasses.fields(Footprint):
        counts = [getattr(way.memory, field.name) for way in ways]
        if field.name in _SHOWN and any(counts):
            sign = -1 if field.name == "donated" else 1
            rows.append(
                _row(f"  {_SHOWN[field.name]}", [size(None if count is None else sign * count) for count in counts])
            )
    rows.append(_row("  needed", [size(way.needed) for way in ways]))
    rows.append(_row("  available", [size(way.available) for way in ways]))
    rows.append(_row("", ["fits" if way.fits else "does not fit" for way in ways]))
    return rows


def _step(plan: Plan) -> list[str]:
    ways = plan.ways
    rows = [
        _row("  FLOPs", [amount(way.flops, "") for way in ways]),
        _row("  bytes of memory", [amount(way.bytes_accessed, "B") for way in ways]),
    ]
    kinds = sorted({one.kind for way in ways for one in way.collectives or ()})
    for kind in kinds:
        found = [next((one for one in way.collectives or () if one.kind == kind), None) for way in ways]
        rows.append(_row(f"  {kind}", [f"{one.count} of {amount(one.bytes, 'B')}" if one else "-" for one in found]))
    for label, part in (("compute", "compute"), ("memory", "memory"), ("interconnect", "interconnect")):
        if any(way.times and getattr(way.times, part) for way in ways):
            cells = [
                "-"
                if way.times is None
                else duration(getattr(way.times, part)) + (" <" if way.times.binds == part else "")
                for way in ways
            ]
            rows.append(_row(f"  time: {label}", cells))
    rows += [
        _row("  step, at least", [duration(way.times.step if way.times else None) for way in ways]),
        _row("  images per second, at most", [rate(plan.images_per_second(way)) for way in ways]),
        _row(
            "  whole budget, at least", [duration(plan.steps * way.times.step if way.times else None) for way in ways]
        ),
    ]
    return rows
