"""Studies: one file per question, with `SCALES`, `runs(scale) -> [Planned]` and `report(results) -> Document`.

The docstring of a study opens with its question, then says its command, its cost and what came out.
"""

import importlib
import inspect
import pkgutil
from types import ModuleType

from research import catalogue
from research.config import Config
from research.errors import UserError, described, unknown
from research.sweeps.plan import Planned

PARTS = ("SCALES", "runs", "report")


def names() -> list[str]:
    """Every study of this folder, in alphabetical order; reads file names only."""
    return sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.ispkg and info.name[0] != "_")


def load(name: str) -> ModuleType:
    """The study called `name`, or a user's own as `file.py`. Raises `UserError`: unknown name, a file that is none."""
    if catalogue.is_path(name):
        module = catalogue.load_file(name, "study")
        missing = [part for part in PARTS if not hasattr(module, part)]
        if missing:
            raise UserError(f"study file {name!r} has no {', '.join(missing)}; expected {', '.join(PARTS)}")
        scales = module.SCALES
        if not isinstance(scales, list | tuple) or not scales or not all(isinstance(scale, str) for scale in scales):
            raise UserError(f"study file {name!r} has no scale in SCALES; expected one at least, such as ('smoke',)")
        return module
    if name not in names():
        raise unknown("study", name, names())
    return importlib.import_module(f"{__name__}.{name}")


def runs(study: ModuleType, scale: str) -> list[Planned]:
    """The runs that a study wants. Raises `UserError` where its `runs`, maybe a user's, raises or gives others."""
    try:
        planned = list(study.runs(scale))
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever the user's own file raises
        raise UserError(f"study {study.__name__}: runs({scale!r}) raised {described(error)}") from error
    for run in planned:
        if not isinstance(run, Planned) or not isinstance(run.config, Config):
            raise UserError(f"study {study.__name__}: runs({scale!r}) gave {str(run)[:80]!r}; expected `Planned` runs")
    return planned


def question(study: ModuleType) -> str:
    """What the study asks: the first line of its docstring. Raises `UserError` where it has none."""
    if not study.__doc__:
        raise UserError(f"study {study.__name__} has no docstring; expected its question as the first line")
    return inspect.cleandoc(study.__doc__).splitlines()[0]
