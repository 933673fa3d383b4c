"""Folders of this machine for what goes to an object store, or comes from one."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

PREFIX = "convscale-"


class Scratch:
    """A folder that a process has to itself until it ends; what killed ones have left of theirs is removed first.

    A lock on the folder says that its process lives.
    """

    def __init__(self) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError), _locked(left) as is_own:
                if is_own:
                    shutil.rmtree(left)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            held = contextlib.ExitStack()
            with contextlib.suppress(OSError):  # another process took it for one that was left
                held.enter_context(_locked(self.path))
                if self.path.exists():
                    break
            held.close()
        self.remove = weakref.finalize(self, _remove, self.path, held)


def _remove(folder: Path, held: contextlib.ExitStack) -> None:
    with held:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Holds the lock of a folder; gives whether the folder is this user's. Raises `OSError` where it is taken."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield os.fstat(opened).st_uid == os.getuid()
    finally:
        os.close(opened)
