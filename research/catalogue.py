"""The folder is the registry: a package is found by reading its folder, a user's own file by its path."""

import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from research import paths
from research.errors import UserError, described, unknown

MOST_CODE = 16 * 2**20  # bytes of a file that somebody wrote; a larger one is something else, and would be read whole


def modules(package: str) -> dict[str, ModuleType]:
    """Every module directly in `package` (dotted name), imported, by file name; `_private` ones are left out."""
    parent = importlib.import_module(package)
    names = sorted(info.name for info in pkgutil.iter_modules(parent.__path__) if not info.name.startswith("_"))
    return {name: importlib.import_module(f"{package}.{name}") for name in names}


def public_functions(package: str) -> dict[str, Callable[..., Any]]:
    """The public functions of every file in `package`, by name. Two files with one name are a mistake of ours."""
    table: dict[str, Callable[..., Any]] = {}
    for module in modules(package).values():
        for name, value in vars(module).items():
            if not name.startswith("_") and inspect.isfunction(value) and value.__module__ == module.__name__:
                assert name not in table, f"{name} is in {module.__name__} and in {table[name].__module__}"
                table[name] = value
    return table


def is_path(name: str) -> bool:
    """Whether `name` means the user's own file (`my_models.py:MyNet`) and not a name of the catalogue."""
    return name.split(":")[0].endswith(".py")


def load_file(path: str, kind: str) -> ModuleType:
    """Import the user's own Python file, once per process. Raises `UserError`: no such file, or its import fails."""
    if not paths.answer(paths.expanded(path).is_file):
        raise UserError(f"{kind} file {path!r} does not exist; expected a path such as my_models.py:MyNet")
    file = paths.expanded(path).resolve()
    if (size := file.stat().st_size) > MOST_CODE:
        raise UserError(f"{kind} file {path!r} has {size} bytes; expected Python code, at most {MOST_CODE}")
    name = f"user_{file.stem}_{abs(hash(str(file)))}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"{kind} file {path!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # the file may import what lies beside it
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        del sys.modules[name]
        raise
    except BaseException as error:  # whatever the user's own file raises, SystemExit included
        del sys.modules[name]
        raise UserError(f"{kind} file {path!r} cannot be imported: {described(error)}") from error
    return module


def refuse_inside(folder: str | os.PathLike[str], names: Iterable[str], said: str) -> None:
    """Raise `UserError` where one of `names` is of a Python file inside `folder`, whose records (`said`) name it.

    A folder of runs may be somebody else's. What it names is imported only where it is the user's own, elsewhere.
    """
    whole = Path(folder).expanduser().resolve()
    if whole.parent.name == "runs" and re.fullmatch("[0-9a-f]{16}", whole.name):  # one of a sweep, which came with it
        whole = whole.parent.parent
    for name in names:
        if is_path(name):
            file = paths.expanded(name.partition(":")[0])
            if paths.answer(file.is_file) and file.resolve().is_relative_to(whole):
                raise UserError(
                    f"{said} names the Python file {name!r} inside of its own folder, which is not run; expected one "
                    "elsewhere: move it out if you trust it"
                )


def load_object(name: str, kind: str) -> Any:
    """The object that `file.py:Name` names. Raises `UserError`: no file, no such name in it (nearest shown)."""
    path, _, attribute = name.partition(":")
    module = load_file(path, kind)
    public = [
        n for n, v in vars(module).items() if not n.startswith("_") and callable(v) and v.__module__ == module.__name__
    ]
    if not attribute:
        raise UserError(
            f"{kind} {name!r} names a file only; expected {path}:NAME, with NAME one of: {', '.join(public)}"
        )
    if not hasattr(module, attribute):
        raise unknown(f"{kind} in {path}", attribute, public)
    return getattr(module, attribute)
