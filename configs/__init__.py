"""Recipes: one file per data set, or per family on it, each with `VARIANTS` and `get_config(variant) -> Config`."""

import json

from research import catalogue, storage
from research import config as configs
from research.config import Config
from research.errors import UserError, unknown


def names() -> list[str]:
    """Every recipe, as `file:variant`, the file's first variant first."""
    return [f"{name}:{variant}" for name, module in catalogue.modules("configs").items() for variant in module.VARIANTS]


def load(spec: str) -> Config:
    """The config of `NAME`, `NAME:VARIANT`, `path.py[:VARIANT]` or a run's `config.json`. Raises `UserError`."""
    if spec.endswith(".json"):
        path = storage.reach(spec).expanduser()
        if not path.is_file():
            raise UserError(f"config file {spec!r} does not exist; expected a run's config.json")
        try:
            values = json.loads(path.read_text())
        except ValueError as error:  # not JSON, or not even text
            raise UserError(f"config file {spec!r} is not JSON: {error}") from None
        return configs.from_dict(values)
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
    except UserError:
        raise
    except Exception as error:  # of a user's own file: whatever it raises, it is no config
        raise UserError(f"config {spec!r}: get_config raised {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise UserError(f"config {spec!r}: get_config gave a {type(config).__name__}; expected a Config")
    return config
