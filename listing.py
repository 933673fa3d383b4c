"""What `launch.py list` shows: the names of each kind, one line on each. A kind is imported when it is asked for."""

import json
import textwrap
from collections.abc import Callable
from typing import Any

from research.errors import unknown


def first_line(thing: Any) -> str:
    """What `thing` says of itself: the first line of its docstring."""
    return (thing.__doc__ or "").strip().split("\n")[0]


def _models() -> dict[str, str]:
    from research import models

    return {name: models.variant(name).summary for name in models.names()}


def _functions(package: str) -> dict[str, str]:
    import importlib

    module = importlib.import_module(package)
    return {name: first_line(getattr(module, name)) for name in module.names()}


def _tasks() -> dict[str, str]:
    from research import catalogue

    return {name: first_line(module) for name, module in catalogue.modules("research.tasks").items()}


def _datasets() -> dict[str, str]:
    from research import data

    return data.summaries()


def _configs() -> dict[str, str]:
    from research import catalogue

    modules = catalogue.modules("configs").items()
    return {f"{name}:{variant}": first_line(module) for name, module in modules for variant in module.VARIANTS}


def _studies() -> dict[str, str]:
    import experiments

    return {name: first_line(experiments.load(name)) for name in experiments.names()}


def _rules() -> dict[str, str]:
    from research.scaling.rules import RULES

    return {name: rule.summary for name, rule in RULES.items()}


def _optimizers() -> dict[str, str]:
    from research.training.optimizer import OPTIMIZERS

    return dict(OPTIMIZERS)


LISTS: dict[str, Callable[[], dict[str, str]]] = {
    "models": _models,
    "losses": lambda: _functions("research.losses"),
    "metrics": lambda: _functions("research.metrics"),
    "tasks": _tasks,
    "datasets": _datasets,
    "configs": _configs,
    "studies": _studies,
    "rules": _rules,
    "probes": lambda: _functions("research.probes"),
    "optimizers": _optimizers,
}


def show(kind: str | None, *, as_json: bool) -> str:
    """The names of a kind, or of every kind, as lines of at most 80 characters or as JSON. Raises `UserError`."""
    if kind is not None and kind not in LISTS:
        raise unknown("kind", kind, LISTS)
    found = {name: LISTS[name]() for name in ([kind] if kind else LISTS)}
    if as_json:
        return json.dumps(found[kind] if kind else found, indent=2)
    lines = []
    for name, rows in found.items():
        lines += [] if kind else [f"{name}:"]
        width = min(max(map(len, rows), default=0), 28)
        for row, summary in rows.items():
            lines.append(textwrap.fill(f"  {row:<{width}}  {summary}", 80, subsequent_indent=" " * (width + 4)))
    return "\n".join(lines)
