"""One folder for TensorBoard: each run of a workdir under its label, as a link to the events in its own folder."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from etils import epath

from research import storage
from research.sweeps import store

FOLDER = "tensorboard"  # of a workdir, and of each run
LONGEST = 200  # bytes of a name: file systems take 255


def link(workdir: epath.PathLike) -> None:
    """Make `WORKDIR/tensorboard/STUDY SCALE/ARM/BUDGET/SEED` lead to the events of each planned run, and nothing else.

    A run that has not begun has a link that leads nowhere yet. An object store has no links: nothing is done there.
    Raises `OSError` where a file system has none either.
    """
    if storage.is_remote(workdir):
        return
    root = Path(workdir) / FOLDER
    wanted = {
        root.joinpath(*_place(study, run)): Path(store.run_folder(workdir, run["id"])) / FOLDER
        for study in store.read_studies(workdir)
        for run in study["runs"]
    }
    for place, events in wanted.items():
        target = os.path.relpath(events, place.parent)  # so that a workdir can be moved
        if place.is_symlink() and os.readlink(place) == target:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.parent / f".{place.name[:100]}.{os.getpid()}.partial"
        partial.symlink_to(target, target_is_directory=True)
        partial.replace(place)
    _tidy(root, set(wanted))


def _tidy(root: Path, wanted: set[Path]) -> None:
    """Remove the links of runs that no study wants any more, and the folders that held them alone."""
    for folder, folders, files in os.walk(root, topdown=False):
        for name in (*folders, *files):
            place = Path(folder, name)
            if place.is_symlink() and place not in wanted:
                place.unlink(missing_ok=True)
        if Path(folder) != root and not os.listdir(folder):
            os.rmdir(folder)


def _place(study: dict[str, Any], run: dict[str, Any]) -> tuple[str, ...]:
    return tuple(map(_name, (f"{study['name']} {study['scale']}", run["arm"], run["budget"], str(run["seed"]))))


def _name(word: str) -> str:
    """A word as the name of a file: what none can have is written as in addresses, and what is too long is cut."""
    text = re.sub(r"[%/\\\x00-\x1f]", lambda found: f"%{ord(found[0]):02X}", word).encode(errors="replace").decode()
    text = f"%2E{text[1:]}" if text.startswith(".") else text or "%"
    if len(text.encode()) > LONGEST:
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        text = f"{text.encode()[: LONGEST - 9].decode(errors='ignore')}~{digest}"
    return text
