"""Executors: where the runs of a sweep train. One file each, with a function `execute`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from etils import epath

from research import catalogue
from research.errors import UserError, unknown
from research.sweeps.jobs import Job, Outcome, Resources

MOST = 100_000  # of anything that is asked for: more is a slip of the keyboard


class Execute(Protocol):
    """The function `execute` of a file in this folder. Yields each job's outcome as it ends, in any order.

    A failing run is an outcome, not an exception, and so is one that another process holds. When whoever asks for
    outcomes has gone, nothing is left running.
    """

    def __call__(
        self,
        jobs: Sequence[Job],
        resources: Resources,
        *,
        workdir: epath.Path,
        progress: bool,
        say: Callable[[str], None],
    ) -> Iterator[Outcome]:
        """Run the jobs as the outcomes are asked for; logs go to `workdir`, notices to `say`.

        Raises `UserError` at once for what it cannot serve, `Preempted` when a signal came.
        """


def names() -> dict[str, Execute]:
    """Executors by name."""
    return {name: module.execute for name, module in catalogue.modules(__name__).items()}


def get(name: str, resources: Resources) -> Execute:
    """The executor of this name. Raises `UserError`: no such name, or impossible resources."""
    known = names()
    if name not in known:
        raise unknown("executor", name, known)
    for word, least in (("workers", 1), ("threads", 1), ("cpus", 1), ("chips", 0), ("retries", 0), ("minutes", 1)):
        value = getattr(resources, word)
        if value is not None and value < least:
            raise UserError(f"{word} is {value}; expected at least {least}")
        if value is not None and value > MOST:
            raise UserError(f"{word} is {value}; expected at most {MOST}")
    if not resources.stall > 0:  # NaN is not either
        raise UserError(f"stall is {resources.stall:g}; expected seconds above 0")
    return known[name]
