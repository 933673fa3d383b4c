"""Leases: who may write a folder, on any file system, also one without locks, and on object stores.

The leases of a folder are numbered files in its `.lease/`. Each is created by exactly one process, its holder, which
writes it again every few seconds (`BEAT`) for as long as it lives. Whoever finds that the holder is gone, or that the
file has not changed for `PATIENCE` seconds of the finder's own clock, creates the next number and holds the folder from
then on. The number is the fencing token: a holder that had only been asleep finds the higher one before it commits
anything, and writes no more. No clock of one machine is compared with that of another.
"""

import contextlib
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from etils import epath

from research import storage
from research.errors import RunFailed, UserError
from research.training import record

FOLDER = ".lease"
BEAT = 10.0  # seconds between two signs of life
PATIENCE = 60.0  # seconds without one, after which a holder is taken for dead

Sight = Literal["free", "held", "unsure"]


class InUse(UserError):
    """Another process holds the folder."""


class Lost(RunFailed):
    """The folder went to another process, which had waited in vain for a sign of life of this one."""


def _machine() -> str:
    """Where process numbers mean the same: this host since it started, or this container."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    with contextlib.suppress(OSError):
        return f"{boot.read_text().strip()} {os.readlink(space)}"
    return platform.node()


def _process(pid: int) -> tuple[str, str]:
    """State (one letter, "" once it is gone) and start (ticks of the machine's clock) of a process of this machine."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    if Path("/proc/self/stat").exists():
        return "", ""
    try:  # no /proc on this system
        os.kill(pid, 0)
    except ProcessLookupError:
        return "", ""
    except PermissionError:
        pass
    return "R", ""


def _tokens(folder: epath.Path) -> list[int]:
    """The numbers of a folder's leases, in order."""
    stems = (name.removesuffix(".json") for name in storage.names(folder / FOLDER))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def _file(folder: epath.Path, token: int) -> epath.Path:
    return folder / FOLDER / f"{token:08d}.json"


class Watch:
    """What one process has seen of the lease of a folder, from look to look."""

    def __init__(self, folder: epath.PathLike) -> None:
        self.folder = epath.Path(folder)
        self._seen: tuple[str, float] | None = None  # the holder's file, and when it was first seen like this

    def look(self) -> tuple[Sight, int, str]:
        """Whether the folder is free, the number of its last lease, and who holds it or held it last.

        `unsure`: held by a process that may be dead; looking again after some seconds says more.
        """
        tokens = _tokens(self.folder)
        if not tokens:
            return "free", 0, "nobody"
        content = storage.read(_file(self.folder, tokens[-1]))
        if content is None:  # it went on while this looked
            return "unsure", tokens[-1], "another process"
        text = content.decode(errors="replace")
        try:
            holder = record.from_text(text)
            who = f"process {holder['pid']} on {holder['host']}"
            if holder["released"]:
                return "free", tokens[-1], who
            alive = _alive(holder)
        except (ValueError, KeyError, TypeError, RecursionError):  # damaged; its next sign of life mends it
            who, alive = "another process", None
        if alive is False:
            return "free", tokens[-1], who
        now = time.monotonic()
        if self._seen is None:
            self._seen = text, now
            return ("held" if alive else "unsure"), tokens[-1], who
        if self._seen[0] != text:
            self._seen = text, now
            return "held", tokens[-1], who
        if now - self._seen[1] > PATIENCE:
            return "free", tokens[-1], who
        return ("held" if alive else "unsure"), tokens[-1], who


def _alive(holder: dict[str, Any]) -> bool | None:
    """Whether a holder lives; None: cannot be told from here, or it is stopped."""
    if holder["machine"] != _machine():
        return None
    state, started = _process(holder["pid"])
    if state in ("", "Z", "X") or started != holder["started"]:
        return False
    return None if state in ("T", "t") else True


@dataclass(frozen=True)
class Progress:
    """Number of a folder's last lease, and what its holder had done at its last sign of life; `rate`: steps/second."""

    token: int = 0
    step: int = 0
    steps: int = 0
    rate: float = 0.0


def progress(folder: epath.PathLike) -> Progress:
    """How far the last holder of a folder is, as its lease says; zeros where that cannot be read."""
    tokens = _tokens(epath.Path(folder))
    if not tokens:
        return Progress()
    try:
        said = record.from_text(storage.read(_file(epath.Path(folder), tokens[-1])) or b"")
        return Progress(tokens[-1], int(said["step"]), int(said["steps"]), float(said["rate"]))
    except (ValueError, KeyError, TypeError, RecursionError):  # going on, or damaged
        return Progress(tokens[-1])


class Lease:
    """A folder held by this process; made by `take`."""

    def __init__(self, folder: epath.Path, token: int, values: dict[str, Any]) -> None:
        self.folder, self.token, self._values = folder, token, values
        self._begun: tuple[int, float] | None = None

    def check(self) -> None:
        """To be called before anything is committed to the folder. Raises `Lost` where it is another's by now."""
        newest = (_tokens(self.folder) or [0])[-1]
        if newest != self.token:
            raise Lost(
                f"{self.folder} went to another process (lease {newest}, this one has {self.token}), which had seen "
                f"no sign of life for {PATIENCE:.0f} s; nothing more is written"
            )

    def done(self, step: int, steps: int) -> None:
        """Let others see how far the run is, with the next sign of life."""
        now = time.monotonic()
        if self._begun is None:
            self._begun = step, now
        before, began = self._begun
        rate = (step - before) / (now - began) if step > before else 0.0
        self._values |= {"step": step, "steps": steps, "rate": rate}

    def beat(self) -> None:
        """Write a sign of life."""
        self._values["beat"] += 1
        record.write_json(_file(self.folder, self.token), self._values)

    def release(self) -> None:
        """Let the next one in; nothing where the folder is gone, or another's."""
        _keeper.drop(self)
        with contextlib.suppress(OSError, Lost):
            self.check()
            self._values["released"] = True
            self.beat()

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        self.check()
        _keeper.drop(self)
        storage.remove_tree(self.folder)


class _Keeper:
    """The thread that writes the signs of life of all leases of this process."""

    def __init__(self) -> None:
        self._held: list[Lease] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def keep(self, lease: Lease) -> None:
        with self._lock:
            self._held.append(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="leases", daemon=True)
                self._thread.start()

    def drop(self, lease: Lease) -> None:
        with self._lock:
            if lease in self._held:
                self._held.remove(lease)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            with self._lock:
                for lease in list(self._held):
                    try:
                        lease.check()
                        lease.beat()
                    except Lost:
                        self._held.remove(lease)
                    except OSError:  # a full disk, a network that stumbles: the next one may be written
                        continue


_keeper = _Keeper()


def take(folder: epath.PathLike, *, patient: bool = True, watch: Watch | None = None) -> Lease:
    """Hold a folder for this process until it is released or the process ends, however it ends.

    Where the last holder may be dead: `patient` waits for a sign of its life, at most `PATIENCE` seconds, less those
    for which `watch` has seen none. Raises `InUse` where another process holds it, or, without patience, may hold it.
    """
    watch = watch or Watch(folder)
    while True:
        sight, token, who = watch.look()
        if sight == "held" or (sight == "unsure" and not patient):
            raise InUse(f"{watch.folder} is in use: {who} is training there; expected a folder of its own")
        if sight == "unsure":
            time.sleep(min(1.0, PATIENCE / 10))
            continue
        values = {
            "host": platform.node(),
            "machine": _machine(),
            "pid": os.getpid(),
            "started": _process(os.getpid())[1],
            "attempt": uuid.uuid4().hex,
            "beat": 0,
            "step": 0,
            "steps": 0,
            "rate": 0.0,
            "released": False,
        }
        if not storage.create(_file(watch.folder, token + 1), record.to_text(values)):
            continue
        lease = Lease(watch.folder, token + 1, values)
        tokens = _tokens(watch.folder)
        if tokens[-1] > lease.token:  # others have come and gone since this looked, and tidied the number away
            storage.remove(_file(watch.folder, lease.token))
            continue
        for old in tokens[:-1]:
            storage.remove(_file(watch.folder, old))
        _keeper.keep(lease)
        return lease


@contextlib.contextmanager
def briefly(folder: epath.PathLike) -> Iterator[None]:
    """Hold a folder for as long as a file in it is read and written again; waits for others who do the same.

    Raises `InUse` where one process holds it for longer than that can take.
    """
    began = time.monotonic()
    while True:
        try:
            lease = take(folder)
            break
        except InUse:
            if time.monotonic() - began > PATIENCE:
                raise
            time.sleep(0.5 if storage.is_remote(folder) else 0.05)
    try:
        yield
    finally:
        lease.release()
