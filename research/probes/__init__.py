"""Probes: pure functions that look inside a network. Every public function of a file here is a probe, by its own name.

    from research import probes
    found = probes.get("gradient_norms")(subject)     # layer -> float32 []

All take a `Subject`, give a number for each layer or block, and can be compiled (where JAX sorts them by name).
"""

import functools
from collections.abc import Callable

import jax

from research import catalogue
from research.errors import unknown
from research.probes._subject import Subject

__all__ = ["Subject", "get", "names"]

Probe = Callable[[Subject], dict[str, jax.Array]]


@functools.cache
def _table() -> dict[str, Probe]:
    return catalogue.public_functions(__name__)


def names() -> list[str]:
    """Every probe, in alphabetical order."""
    return sorted(_table())


def get(name: str) -> Probe:
    """The probe called `name`. Raises `UserError` naming the nearest."""
    if name not in _table():
        raise unknown("probe", name, names())
    return _table()[name]


def __getattr__(name: str) -> Probe:
    """Every probe is an attribute of this package, found by walking the folder when first asked for."""
    if not name.startswith("_") and name in _table():
        return _table()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
