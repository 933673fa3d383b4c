"""Where runs are kept: folders of this machine, or object stores (`gs://`, `s3://`) through fsspec.

What is written here is seen as it was or as it is, never half. On a disk that takes a rename. A store shows every file
whole, and has neither renames that are one step nor appends; its folders are no more than the beginnings of names.
"""

import contextlib
import functools
import importlib.util
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from etils import epath

from research.errors import UserError

LIBRARIES = {"gs": "gcsfs", "s3": "s3fs"}  # of a scheme, which is also the name of the extra
AT_ONCE = 16  # requests in flight where many files are asked for
TRIES = 3  # of a creation whose answer says neither yes nor no

_sound: set[str] = set()  # buckets that create a file once
Item = TypeVar("Item")
Found = TypeVar("Found")


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path is of an object store."""
    return "://" in str(path)


def reach(path: epath.PathLike) -> epath.Path:
    """A path that can be asked for. Raises `UserError` where it is of a store that is not known here."""
    if is_remote(path):
        _store(path)
    return epath.Path(path)


def _store(path: epath.PathLike) -> Any:
    """The file system of fsspec's for a remote path."""
    return _library(str(path).partition("://")[0])


@functools.cache
def _library(scheme: str) -> Any:
    if scheme not in LIBRARIES:
        raise UserError(f"paths of {scheme}:// are not known; expected a folder of this machine, gs:// or s3://")
    if importlib.util.find_spec(LIBRARIES[scheme]) is None:
        raise UserError(f"paths of {scheme}:// need {LIBRARIES[scheme]}; install the extra `{scheme}`")
    import fsspec

    os.environ.setdefault("EPATH_USE_TF", "false")  # or epath would go through TensorFlow where that is installed
    # What others have written since must be seen: for epath's own file systems too, which are made later.
    fsspec.config.conf.setdefault(scheme, {})["use_listings_cache"] = False
    return fsspec.filesystem(scheme)


@contextlib.contextmanager
def _asking(path: epath.PathLike) -> Iterator[None]:
    """Each library of a store has errors of its own: they become `OSError`."""
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:
        raise OSError(f"{path}: {type(error).__name__}: {error}") from error


def read(path: epath.PathLike) -> bytes | None:
    """The content of a file; None where there is none. One request."""
    if not is_remote(path):
        try:
            with open(path, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
    with _asking(path), contextlib.suppress(FileNotFoundError):
        whole = {"max_concurrency": 1} if str(path).startswith("s3:") else {}  # or in parts, of which one may be newer
        found: bytes = _store(path).cat_file(str(path), **whole)
        return found
    return None


def names(folder: epath.PathLike) -> list[str]:
    """Names of the files and folders in a folder, sorted; [] where it is not there. One request per 1,000."""
    if not is_remote(folder):
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
    with _asking(folder), contextlib.suppress(FileNotFoundError):
        found = _store(folder).ls(str(folder), detail=False)
        return sorted({path.rstrip("/").rpartition("/")[2] for path in found} - {""})
    return []


def write(path: epath.PathLike, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never part of it."""
    data = content.encode() if isinstance(content, str) else content
    if is_remote(path):
        with _asking(path):
            _store(path).pipe_file(str(path), data)
        return
    partial = _partial(Path(path))
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except BaseException:  # a full disk, a signal: nothing of it stays
        partial.unlink(missing_ok=True)
        raise


def create(path: epath.PathLike, text: str) -> bool:
    """Write a file that must not be there yet; False where it is. Of several at once, one succeeds.

    On a store `text` must be like no other's: whose file lies there decides, where an answer was lost. Raises
    `UserError` for a store that would let two succeed.
    """
    if is_remote(path):
        check_creation(epath.Path(path).parent)
        return _created(path, text)
    partial = _partial(Path(path))
    partial.write_text(text)
    try:
        os.link(partial, path)  # unlike an exclusive open it shows the whole text at once, also over a network
    except FileExistsError:
        return os.stat(partial).st_nlink == 2  # done, and only the server's answer was lost
    finally:
        partial.unlink()
    return True


def _created(path: epath.PathLike, text: str) -> bool:
    for left in reversed(range(TRIES)):
        try:
            with _asking(path):
                _store(path).pipe_file(str(path), text.encode(), mode="create")
            return True
        except OSError:  # it is there, or two came at once: each store has words of its own for it
            if (there := read(path)) is not None:
                return there == text.encode()
            if not left:
                raise
            time.sleep(0.1)
    raise AssertionError("unreachable")


def check_creation(folder: epath.PathLike) -> None:
    """Two creations of one file, of which the second must fail: asked once of each bucket by each process.

    Raises `UserError` where a store cannot be written to, or writes what is to be created over what is there.
    """
    scheme, _, rest = str(folder).partition("://")
    bucket = f"{scheme}://{rest.partition('/')[0]}"
    if not is_remote(folder) or bucket in _sound:
        return
    file = f"{str(folder).rstrip('/')}/.{uuid.uuid4().hex}.probe"
    try:
        first, second = _created(file, "first"), _created(file, "second")
    except OSError as error:
        raise UserError(f"{bucket} cannot be written to: {error}") from error
    remove(file)
    if not first or second:
        raise UserError(f"{bucket} has no conditional writes (If-None-Match), without which runs have no leases")
    _sound.add(bucket)


def remove(path: epath.PathLike) -> None:
    """Remove a file, where it is there."""
    if not is_remote(path):
        Path(path).unlink(missing_ok=True)
        return
    with _asking(path), contextlib.suppress(FileNotFoundError):
        _store(path).rm_file(str(path))


def remove_tree(folder: epath.PathLike) -> None:
    """Remove a folder with all that is in it, where it is there; on a store in no order and not in one step."""
    with _asking(folder):
        epath.Path(folder).rmtree(missing_ok=True)


def upload(file: Path, path: epath.PathLike) -> None:
    """Copy a file of this machine to a store, where it appears whole."""
    with _asking(path):
        _store(path).put_file(str(file), str(path))


def download(path: epath.PathLike, file: Path) -> None:
    """Copy a file of a store to this machine. Raises `FileNotFoundError`."""
    with _asking(path):
        _store(path).get_file(str(path), str(file))


def _partial(target: Path) -> Path:
    """A name beside `target` that no other thread or process writes to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent / f".{target.name}.{platform.node()}-{os.getpid()}-{threading.get_ident()}.partial"


def remove_partial(folder: epath.PathLike) -> None:
    """Remove what processes that were killed had only begun to write."""
    if not is_remote(folder):
        for file in Path(folder).glob(".*.partial"):
            file.unlink(missing_ok=True)


def each(function: Callable[[Item], Found], items: Iterable[Item], folder: epath.PathLike) -> list[Found]:
    """`function` of each item, several at a time where they ask a store for something."""
    if not is_remote(folder):
        return [function(item) for item in items]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(function, items))
