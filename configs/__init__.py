"""Recipes: one file per data set, each with `VARIANTS` and `get_config(variant) -> Config`."""

import json
from pathlib import Path

from research import catalogue
from research import config as configs
from research.config import Config
from research.errors import UserError, unknown


def names() -> list[str]:
    """Every recipe, as `file:variant`, the file's first variant first."""
    return [f"{name}:{variant}" for name, module in catalogue.modules("configs").items() for variant in module.VARIANTS]


def load(spec: str) -> Config:
    """The config of `NAME`, `NAME:VARIANT`, `path.py[:VARIANT]` or a run's `config.json`. Raises `UserError`."""
    if spec.endswith(".json"):
        path = Path(spec).expanduser()
        if not path.is_file():
            raise UserError(f"config file {spec!r} does not exist; expected a run's config.json")
        try:
            return configs.from_dict(json.loads(path.read_text()))
        except json.JSONDecodeError as error:
            raise UserError(f"config file {spec!r} is not JSON: {error}") from None
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
    if not variant:
        return module.get_config()
    known = getattr(module, "VARIANTS", None)
    if known is not None and variant not in known:
        raise unknown(f"variant of config {name}", variant, known)
    return module.get_config(variant)
