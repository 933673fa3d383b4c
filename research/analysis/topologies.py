"""TPU chips, the slices that are rented of them, and devices to compile for through libtpu where there is no TPU."""

import importlib.util
import math
import os
import re
from dataclasses import dataclass
from typing import Any

from research.errors import RunFailed, UserError, nearest, unknown

GIB = 2**30
# What libtpu asks of a machine with TPUs, answered: it must neither wait for an answer nor write logs.
_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else a lock file: one process at a time
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}


@dataclass(frozen=True)
class Chip:
    """One kind of chip: published peaks, in FLOPs and bytes per second, and the slices it is rented in.

    `memory` is what of the HBM libtpu 0.0.42 leaves to a program, in bytes; a program that asks for more is told so.
    `link`: one of the links to another chip, in one direction. A slice's axis is closed into a ring where its size is
    a multiple of `ring`; with `cubes`, only where all of them are.
    """

    name: str
    flops: float  # bfloat16
    bandwidth: float
    memory: int
    link: float
    ring: int
    cubes: bool
    slices: tuple[str, ...]
    source: str


# Peak bfloat16 FLOP/s, HBM bytes/s, and the bytes/s between chips both ways over all links (400, 1,200 and 800 GB/s;
# 4, 6 and 4 links), from which that of a link one way.
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SOLID = (
    *("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8"),
    *("4x8x8", "8x8x8", "8x8x16", "8x16x16", "16x16x16", "16x16x24"),
)
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", 197e12, 819e9, int(15.75 * GIB), 50e9, 16, False, _FLAT, "cloud.google.com/tpu/docs/v5e"),
        Chip("v5p", 459e12, 2765e9, int(95.74 * GIB), 100e9, 4, True, _SOLID, "cloud.google.com/tpu/docs/v5p"),
        Chip("v6e", 918e12, 1638e9, int(31.25 * GIB), 100e9, 16, False, _FLAT, "cloud.google.com/tpu/docs/v6e"),
    )
}
NAMES = tuple(f"{chip.name}:{shape}" for chip in CHIPS.values() for shape in chip.slices)


@dataclass(frozen=True)
class Slice:
    """Chips wired into a block of this shape."""

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """How many."""
        return math.prod(self.shape)

    @property
    def host(self) -> tuple[int, ...]:
        """The block of chips that one host has: the whole of what a machine of 8 holds, else 4 or fewer."""
        if len(self.shape) == 2 and self.shape == (2, 4):
            return (2, 4, 1)
        flat = (*self.shape, 1)[:3]
        return (min(flat[0], 2), min(flat[1], 2), 1)

    @property
    def hosts(self) -> int:
        """How many machines."""
        return self.chips // math.prod(self.host)

    @property
    def links(self) -> int:
        """Links that the chip with the fewest has into the slice: along an axis one, two where it is a ring."""
        closed = [size % self.chip.ring == 0 for size in self.shape]
        if self.chip.cubes:
            closed = [all(closed)] * len(closed)
        return sum(1 + ring for size, ring in zip(self.shape, closed, strict=True) if size > 1)


def parse(text: str) -> Slice:
    """The slice that `text` names, such as `v5e:2x4`. Raises `UserError` with the nearest names."""
    if text in NAMES:
        name, shape = text.split(":")
        return Slice(CHIPS[name], tuple(map(int, shape.split("x"))))
    match = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", text)
    if match is None:
        near = [name for name in NAMES if text.startswith(name.partition(":")[0])] or nearest(text, NAMES) or NAMES[:3]
        raise UserError(f"topology {text!r} is not CHIP:SHAPE; expected such as {', '.join(near)}")
    if match[1] not in CHIPS:
        raise unknown("TPU chip", match[1], CHIPS)
    chips = math.prod(map(int, match[2].split("x")))
    own = [f"{match[1]}:{shape}" for shape in CHIPS[match[1]].slices]
    same = [name for name in own if parse(name).chips == chips]
    raise UserError(f"unknown topology {text!r}; nearest: {', '.join(same or nearest(text, own) or own[:3])}")


def prepare() -> None:
    """Raise `UserError` where libtpu, the compiler for TPUs, is not installed; else tell it not to look for any.

    Nothing is imported. To be called before JAX is: it asks libtpu about the machine when it is imported.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "libtpu, which compiles for TPUs without one, is not installed; expected the extra tpu: "
            "pip install 'convscale[tpu]', or in a clone make install EXTRAS=dev,tpu"
        )
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)


def devices(wanted: Slice) -> tuple[Any, ...]:
    """Devices of a slice, to compile for and nothing else; no TPU is looked for. Raises `UserError`, `RunFailed`."""
    prepare()
    from jax.experimental import topologies

    block = list(wanted.host)
    try:
        found = topologies.get_topology_desc(wanted.name, platform="tpu", chips_per_host_bounds=block).devices
    except Exception as error:  # of whatever type the plugin raises
        raise RunFailed(f"libtpu cannot describe {wanted.name}: {' '.join(str(error).split())[:200]}") from error
    return tuple(found)
