"""What the runs of one process share: compiled programs, what was traced for them, and the data set on the devices.

Seed, learning rates and the other numbers of a run are arguments of its programs. Runs that differ in nothing else have
the same `shaping` config, and so one train step, one evaluation and one initialiser.
"""

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax

from research import catalogue
from research.config import Config, OptimizerConfig, TaskConfig

PyTree = Any
T = TypeVar("T")

# What is kept for later runs: programs and shapes of some three kinds of runs, one after the other.
_MOST = 32
_made: OrderedDict[Hashable, Any] = OrderedDict()
_last: dict[str, tuple[Hashable, Any]] = {}
_lock = threading.RLock()  # one compiles, and who wants the same waits for it
_data = threading.RLock()


def shaping(cfg: Config) -> Config:
    """`cfg` with every field that is an argument of the compiled programs, or none of theirs, at its default.

    Whether a number is on (clipping, averaged weights, label smoothing) shapes them: see `Resolved.signature`.
    """
    default = Config()
    rule = OptimizerConfig(cfg.optimizer.name, decay_on=cfg.optimizer.decay_on, groups=cfg.optimizer.groups)
    task = dataclasses.replace(cfg.task, auxiliary_weight=None)
    if not catalogue.is_path(task.loss):  # a user's own loss may branch on it
        task = dataclasses.replace(task, label_smoothing=TaskConfig().label_smoothing)
    return dataclasses.replace(
        cfg,
        data=dataclasses.replace(cfg.data, workers=0),
        task=task,
        optimizer=rule,
        schedule=default.schedule,
        budget=default.budget,
        evaluation=default.evaluation,
        checkpointing=default.checkpointing,
        seed=0,
        notes="",
    )


def once(key: Hashable, make: Callable[[], T]) -> T:
    """What `make` gives, made once per process for each key as long as it is not one of many more."""
    with _lock:
        if key not in _made:
            _made[key] = make()
            while len(_made) > _MOST:
                _made.popitem(last=False)
        _made.move_to_end(key)
        return _made[key]


def latest(kind: str, key: Hashable, make: Callable[[], T]) -> T:
    """What `make` gives, kept until another is asked for: for what is large. The one before is let go of first."""
    with _data:
        if kind not in _last or _last[kind][0] != key:
            _last.pop(kind, None)
            _last[kind] = key, make()
        return _last[kind][1]


def on_devices(place: Callable[[PyTree], PyTree], layout: Hashable, arrays: PyTree) -> PyTree:
    """`arrays` placed; those that the run before had too, being the same objects, are on the devices already."""
    with _data:
        before = {}
        if "placed" in _last:
            known, pairs = _last.pop("placed")
            before = {id(array): (array, placed) for array, placed in pairs} if known == layout else {}
        leaves, structure = jax.tree.flatten(arrays)
        pairs = [before.get(id(leaf)) or (leaf, None) for leaf in leaves]
        before.clear()  # what is not used again leaves the devices before more comes
        pairs = [(leaf, place(leaf) if placed is None else placed) for leaf, placed in pairs]
        _last["placed"] = layout, pairs
        return jax.tree.unflatten(structure, [placed for _, placed in pairs])


def forget() -> None:
    """Let go of all of it."""
    with _lock, _data:
        _made.clear()
        _last.clear()
