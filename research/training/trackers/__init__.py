"""Trackers: programs that show curves, to which the records of a run go besides its folder. One file each.

A file has `begin`. One whose library is an extra names both (`LIBRARY`, what is imported; `EXTRA`, what is installed),
and may have `check`, which raises `UserError` where the library is there and still cannot be used.
"""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, Protocol

from etils import epath

from research import catalogue
from research.errors import UserError, unknown

ALWAYS = "tensorboard"  # follows every run, unasked

# `lost`: another process goes on with the run, which this one lets go of without a word.
Status = Literal["finished", "failed", "preempted", "lost"]


@dataclass(frozen=True)
class Run:
    """What a tracker is told of a run. `id`: its identity; `name`, `group`: what people call it, and of what it is one.

    `config`: as JSON values. `start`: steps after which it goes on; 0: it begins, anew where it had begun before.
    """

    id: str
    name: str
    group: str
    folder: epath.Path
    config: Mapping[str, Any]
    start: int = 0


class Tracker(Protocol):
    """One run at one tracker, made by the function `begin` of its file: `begin(run)`. May raise whatever it likes."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Send the numbers of one record; steps never fall, and two records may have the same."""

    def end(self, status: Status, summary: Mapping[str, float | str]) -> None:
        """Send how the run has ended, the last call."""


def modules() -> dict[str, ModuleType]:
    """The files of this folder, by the names of their trackers."""
    return catalogue.modules(__name__)


def check(names: Iterable[str]) -> None:
    """Raise `UserError`: no tracker of this name, or its library is missing or cannot be used."""
    known = modules()
    for name in names:
        if name not in known:
            raise unknown("tracker", name, known)
        library = getattr(known[name], "LIBRARY", None)
        if library is not None and importlib.util.find_spec(library) is None:
            raise UserError(f"the tracker {name} needs {library}; install the extra `{known[name].EXTRA}`")
        if hasattr(known[name], "check"):
            known[name].check()
