"""A disk that takes nothing more: known through whatever libraries make of it, and said in one line."""

import errno
import os
import tempfile

from etils import epath

from research import storage
from research.errors import RunFailed
from research.training.checkpoint import Checkpoints

_SAID = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "no space left",
    errno.EROFS: "read-only file system",
    errno.EIO: "input/output error",
}


def trouble(error: BaseException | None) -> str:
    """What is wrong with the disk where that is the error, or what led to it; "" for any other error."""
    while error is not None:
        for number, words in _SAID.items():
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return words
        error = error.__cause__ or error.__context__
    return ""


def failure(error: BaseException, folder: epath.PathLike, checkpoints: Checkpoints) -> RunFailed:
    """What to say of it to whoever trains in `folder`."""
    sound = checkpoints.steps()
    last = f"step {sound[-1]}" if sound else "none"
    full = tempfile.gettempdir() if storage.is_remote(folder) else folder  # where checkpoints are before they go up
    return RunFailed(f"{trouble(error)}: {full}; last checkpoint: {last}; the same command continues")
