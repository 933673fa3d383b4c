"""Recipes: one file per data set, or per family on it, each with `VARIANTS` and `get_config(variant) -> Config`."""

import inspect
import json
from collections.abc import Sequence
from typing import Any

from etils import epath

from research import catalogue, paths, storage
from research import config as configs
from research.config import Config
from research.errors import UserError, described, unknown

MOST_JSON = 16 * 2**20  # bytes: a config has thousands; a larger file is something else, and would be read whole
RECORD = "environment.json"  # beside the config of a run: its folder may be somebody else's


def names() -> list[str]:
    """Every recipe, as `file:variant`, the file's first variant first."""
    return [f"{name}:{variant}" for name, module in catalogue.modules("configs").items() for variant in module.VARIANTS]


def _from_json(spec: str) -> Config:
    path = storage.reach(spec) if storage.is_remote(spec) else epath.Path(paths.expanded(spec))
    if not paths.answer(path.is_file):
        raise UserError(f"config file {spec!r} does not exist; expected a run's config.json")
    if (size := path.stat().length) > MOST_JSON:
        raise UserError(f"config file {spec!r} has {size} bytes; expected a run's config.json, at most {MOST_JSON}")
    try:
        values = json.loads(path.read_text(), object_pairs_hook=_once)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:  # not JSON, not even text, or lists in lists without end
        raise UserError(f"config file {spec!r} is not JSON: {error}") from None
    config = configs.from_dict(values)
    if not storage.is_remote(spec) and (path.parent / RECORD).exists():
        catalogue.refuse_inside(path.parent, (config.model.name, config.task.loss), spec)
    return config


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are given once: of two, Python would silently take the last."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for at, (key, _) in enumerate(pairs) if key in [name for name, _ in pairs[:at]])
        raise UserError(f"config key {twice!r} is given twice; expected it once")
    return values


def load(spec: str) -> Config:
    """The config of `NAME`, `NAME:VARIANT`, `path.py[:VARIANT]` or a run's `config.json`. Raises `UserError`."""
    if spec.endswith(".json"):
        return _from_json(spec)
    name, _, variant = spec.partition(":")
    if catalogue.is_path(spec):
        module = catalogue.load_file(name, "config")
        if not hasattr(module, "get_config"):
            raise UserError(f"config file {name!r} has no get_config(); expected a function that returns a Config")
    else:
        modules = catalogue.modules("configs")
        if name not in modules:
            raise unknown("config", spec, [*modules, *names()])
        module = modules[name]
    known = getattr(module, "VARIANTS", None)
    if ":" in spec and known is not None and variant not in known:
        raise unknown(f"variant of config {name}", variant, known)
    try:
        config = module.get_config(variant) if ":" in spec else module.get_config()
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # of a user's own file: whatever it raises, it is no config
        raise UserError(f"config {spec!r}: get_config raised {described(error)}") from error
    if not isinstance(config, Config):
        if inspect.iscoroutine(config):
            config.close()  # else Python warns that nobody awaited it
        raise UserError(f"config {spec!r}: get_config gave a {type(config).__name__}; expected a Config")
    return config
