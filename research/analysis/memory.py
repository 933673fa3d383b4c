"""How much memory a compiled program asks for, and how much the process that runs it really takes."""

import contextlib
import ctypes
import gc
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Memory:
    """What a compiled program takes up on one device, in bytes; `aliases` are outputs in the place of arguments."""

    arguments: int
    outputs: int
    temporaries: int
    aliases: int

    @property
    def total(self) -> int:
        """All that has to be there at once."""
        return self.arguments + self.outputs + self.temporaries - self.aliases


def of(compiled: Any) -> Memory:
    """The compiler's account of a `jax.stages.Compiled`. What a custom call allocates for itself is not in it."""
    found = compiled.memory_analysis()
    return Memory(
        arguments=found.argument_size_in_bytes,
        outputs=found.output_size_in_bytes,
        temporaries=found.temp_size_in_bytes,
        aliases=found.alias_size_in_bytes,
    )


def forget_peak() -> int | None:
    """Give free memory back to the system and begin a new peak: the resident bytes from there on; None off Linux."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _FORGET.write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def peak() -> int:
    """The most resident bytes that this process has had, since `forget_peak` where that works."""
    if _STATUS.exists():
        return _status("VmHWM")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _status(key: str) -> int:
    (kilobytes,) = [line.split()[1] for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:")]
    return int(kilobytes) * 1024
