"""Paths that users name: what is there, and what can be written, whatever the name."""

import os
from collections.abc import Callable
from pathlib import Path

from research.errors import UserError


def answer(question: Callable[[], bool]) -> bool:
    """What a path answers (`path.is_file`); False for a name that nothing can have: too long, a link to itself."""
    try:
        return question()
    except (OSError, RuntimeError, ValueError):
        return False


def expanded(text: str) -> Path:
    """`text` as a path, `~` as the user's home; of a user that there is not, as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def reason(error: Exception) -> str:
    """What the system, or Python, says of a path that cannot be used."""
    return getattr(error, "strerror", None) or str(error)


def impossible(path: str | os.PathLike[str]) -> str:
    """Why nothing can have this name, or ""; a name that is only missing can be made."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as error:
        return reason(error)
    return ""


def check_folder(folder: str | os.PathLike[str], said: str) -> None:
    """Raise `UserError` where `folder`, which need not exist yet, cannot be one to write to; `said`: what it is."""
    shown = f"{said} {str(folder)!r}"
    if why := impossible(folder):
        raise UserError(f"{shown} cannot be a folder: {why}")
    for place in (Path(folder), *Path(folder).parents):
        if os.path.lexists(place):
            if not answer(place.is_dir):
                raise UserError(f"{shown}: {str(place)!r} is a file; expected a folder")
            if not os.access(place, os.W_OK | os.X_OK):
                raise UserError(f"{shown}: nothing can be written in {str(place)!r}")
            return


def check_file(file: str | os.PathLike[str], said: str) -> None:
    """Raise `UserError` where `file`, in a folder that exists, cannot be one to write to; `said`: what it is."""
    path = Path(file)
    if not answer(path.parent.is_dir):
        missing = f"{said} is {str(file)!r}, and there is no folder {str(path.parent)!r}"
        raise UserError(f"{missing}; expected a file in a folder that exists")
    if why := impossible(file):
        raise UserError(f"{said} is {str(file)!r}, which cannot be a file: {why}")
    if answer(path.is_dir):
        raise UserError(f"{said} is {str(file)!r}, which is a folder; expected a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{said} is {str(file)!r}, which cannot be written")
