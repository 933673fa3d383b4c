"""Errors a user can cause: one line that says what was wrong, what was expected and the nearest valid name."""

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """The user's words are wrong (name, key, value, missing data); `launch.py` prints it as one line and exits 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class RunFailed(RuntimeError):
    """A run started and could not finish (a non-finite loss); `launch.py` exits 1. `details` go into its summary."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class Preempted(RuntimeError):
    """A signal came: state is saved and the same command continues; `launch.py` exits 3."""


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names most like `name`, best first; at most `count`, possibly none."""
    lowered = {n.lower(): n for n in sorted(names, reverse=True)}
    return [lowered[m] for m in difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.5)]


def unknown(kind: str, name: str, names: Iterable[str]) -> UserError:
    """The error for a name that does not exist: names the kind, the name and its nearest valid neighbours.

    Where nothing is near, a short list is shown whole and a long one by how many names it has.
    """
    known = sorted(names)
    close = nearest(name, known)
    if close:
        hint = f"nearest: {', '.join(close)}"
    elif len(known) <= 12:
        hint = f"expected one of: {', '.join(known) or '(none)'}"
    else:
        hint = f"expected one of {len(known)} names, such as {', '.join(known[:3])}"
    return UserError(f"unknown {kind} {name!r}; {hint}")
