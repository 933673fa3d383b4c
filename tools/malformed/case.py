"""A case: what is typed, and the folder that it is typed in."""

import dataclasses
import hashlib
import os
import random
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """Words of a command line, typed in the case's own folder; `why` they are malformed.

    `program`: `launch.py`, or `research.data`. `read_only`: a folder on which nothing can be written meanwhile.
    """

    words: tuple[str, ...]
    why: str
    program: str = "launch.py"
    read_only: Path | None = None
    kind: str = ""


@dataclass(frozen=True)
class Place:
    """The folder of a case, and where what a case may start from is kept: a sweep of one trained run."""

    folder: Path
    kept: Path

    def write(self, name: str, data: bytes | str) -> str:
        """A file of the case; returns its name."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data if isinstance(data, bytes) else data.encode())
        return name

    def sweep(self) -> Path:
        """A copy of the sweep: `study.json`, its report, and `runs/ID`."""
        shutil.copytree(self.kept, self.folder / "sweep")
        return self.folder / "sweep"

    def run(self) -> Path:
        """A copy of the trained run."""
        (source,) = (self.kept / "runs").iterdir()
        shutil.copytree(source, self.folder / "run")
        return self.folder / "run"


Kind = Callable[[random.Random, Place], Case]


def digest(folder: Path) -> str:
    """One number for all that lies in a folder: names, kinds, contents of files, ends of links."""
    total = hashlib.sha256()
    for place in sorted(folder.rglob("*")):
        found = place.lstat()
        total.update(f"{os.fsencode(place.relative_to(folder))!r} {stat.S_IFMT(found.st_mode)}\n".encode())
        if stat.S_ISLNK(found.st_mode):
            total.update(os.fsencode(os.readlink(place)))
        elif stat.S_ISREG(found.st_mode):
            total.update(f"{found.st_size}\n".encode())
            with place.open("rb") as file:  # of a file with a hole of terabytes the ends
                total.update(file.read(1 << 24))
                file.seek(max(0, found.st_size - (1 << 16)))
                total.update(file.read())
    return total.hexdigest()


def names(folder: Path) -> set[str]:
    """What lies in a folder, for whoever asks what has changed."""
    return {repr(place.relative_to(folder).as_posix()) for place in folder.rglob("*")}


def draw(kinds: dict[str, Kind], seed: int, number: int, place: Place) -> Case:
    """Case `number` of a seed: each kind in its turn, in an order of the seed's; the rest is drawn."""
    order = sorted(kinds)
    random.Random(seed).shuffle(order)
    name = order[number % len(order)]
    made = kinds[name](random.Random(f"{seed}/{number}"), place)
    return dataclasses.replace(made, kind=name)
