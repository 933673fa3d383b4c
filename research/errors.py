"""Errors a user can cause: one line that says what was wrong, what was expected and the nearest valid name."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

LONGEST = 1000  # characters of a line that a person reads
# What a terminal obeys instead of showing it, what turns the direction of text, and halves of characters.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(message: str) -> str:
    """Text from anywhere as one line that is safe to show: control characters escaped, the middle of a long one out.

    Both of its ends stay: what was wrong, and what was expected.
    """
    shown = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], " ".join(message.split()))
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST // 2]} ... {shown[-LONGEST // 2 + 5 :]}"


def described(error: BaseException) -> str:
    """Kind and message of an error that a user's own code raised; of one whose message raises too, the kind."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


class UserError(ValueError):
    """The user's words are wrong (name, key, value, missing data); `launch.py` prints it as one line and exits 2."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


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
