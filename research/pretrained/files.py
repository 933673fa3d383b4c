"""Files of weights as named arrays: PyTorch's in both of its formats, safetensors, and pickled NumPy arrays.

The format is told by the first bytes. Nothing in a file is executed (`research.pretrained.unpickler`), and nothing of
it is unfolded to many times its size: sizes are compared with what they declare before they are read.
"""

import io
import itertools
import lzma
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from research import paths
from research.errors import UserError
from research.pretrained.unpickler import Array, RestrictedUnpickler, Storage, Tensor, check

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "state_dict_ema",
    "model_ema",
)  # what training scripts wrap a state dict in

MOST_BYTES = 8 * 2**30  # of a file: four times the largest weights of the catalogue (EfficientNet-L2, 480 million)
MOST_HEADER = 100_000_000  # bytes of a safetensors header, as its own reader has it
EXPANSION = 4  # what may come out of a file, in its sizes: weights hardly compress, and tied ones are in it once
SLACK = 2**20  # bytes that may come out of a file of any size
MOST_ARRAYS = 1_000_000  # names in a file, and lists around them: a hundred times the largest network's
_DEEPEST = 100  # containers in one another

# What damaged bytes make the readers raise; the last four come of members of an archive that say they are compressed,
# or encrypted, in some way.
_DAMAGE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError, struct.error),
    *(EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, MemoryError),
    *(RuntimeError, OSError, zlib.error, lzma.LZMAError),
)


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, as the file has them; numbers in lists are called `name/0`, `name/1`.

    Raises `UserError`, one line: no such file, not a file of weights, damaged, or one that would run code.
    """
    data = contents(path)
    reader = _reader(data)
    if reader is None:
        raise UserError(f"{path} is not a file of weights; expected PyTorch's, safetensors or pickled NumPy arrays")
    try:
        arrays = {name: np.asarray(value) for name, value in _within(len(data), _named(reader(data)))}
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read as weights ({reason}); nothing of it was run or loaded") from error
    if not arrays:
        raise UserError(f"{path} holds no arrays; expected weights by name")
    return arrays


def contents(path: str | Path) -> bytes:
    """The bytes of a file of weights, the first of one that cannot be any. Raises `UserError`: no file, too large."""
    file = paths.expanded(str(path))
    if not paths.answer(file.is_file):
        what = "are no file" if paths.answer(file.exists) else "do not exist"
        raise UserError(f"weights {str(path)!r} {what}; expected a .pth, .pt, .safetensors or .pkl file")
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise UserError(f"weights {str(path)!r} have {size} bytes; expected at most {MOST_BYTES}")
        with file.open("rb") as opened:
            head = opened.read(64)
            return head if _reader(head) is None else head + opened.read()
    except OSError as error:
        raise UserError(f"weights {str(path)!r} cannot be read: {paths.reason(error)}") from error


def _within(size: int, named: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """These arrays, as long as they are not many times what the file of `size` bytes holds."""
    taken = 0
    for name, array in named:
        taken += array.nbytes
        if taken > EXPANSION * size + SLACK:
            raise ValueError("its arrays are many times its size")
        yield name, array


def _reader(data: bytes) -> Any:
    if data[:4] == b"PK\x03\x04":
        return _torch_zip
    if data[:1] == b"\x80":
        return _torch_legacy if _is_legacy(data) else _pickled
    if len(data) > 9 and data[8:9] == b"{" and struct.unpack("<Q", data[:8])[0] < MOST_HEADER:
        return load_safetensors
    return None


def _is_legacy(data: bytes) -> bool:
    """Whether the file begins with the magic number of PyTorch before 1.6, itself a pickle."""
    return LEGACY_MAGIC.to_bytes(10, "little") in data[:32]


def _pickled(data: bytes) -> Any:
    check(data)
    return RestrictedUnpickler(io.BytesIO(data)).load()


def _torch_zip(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > EXPANSION * len(data) + SLACK:
            raise ValueError("it unfolds to many times its size")
        index = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(index) != 1:
            raise ValueError("an archive without PyTorch's data.pkl")
        folder = index[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("written on a big-endian machine")
        storages: dict[str, Storage] = {}

        def storage(dtype: np.dtype, key: str, count: int) -> Storage:
            if key not in storages:
                storages[key] = Storage(dtype, count, _numbers(archive.read(f"{folder}data/{key}"), dtype, count))
            return storages[key]

        pickled = archive.read(index[0])
        check(pickled)
        return RestrictedUnpickler(io.BytesIO(pickled), storage).load()


def _torch_legacy(data: bytes) -> Any:
    """Pickles in a row (magic number, version, machine, the object, keys of its storages), then the storages."""
    stream = io.BytesIO(data)
    storages: dict[str, Storage] = {}

    def storage(dtype: np.dtype, key: str, count: int) -> Storage:
        return storages.setdefault(key, Storage(dtype, count))

    for _ in range(3):
        check(data, stream.tell())
        RestrictedUnpickler(stream).load()
    check(data, stream.tell())
    content = RestrictedUnpickler(stream, storage).load()
    check(data, stream.tell())
    for key in RestrictedUnpickler(stream).load():
        found = storages[str(key)]
        (count,) = struct.unpack("<q", stream.read(8))
        if count != found.count:
            raise ValueError(f"storage {key} has {count} numbers; expected {found.count}")
        found.data = _numbers(stream.read(count * found.dtype.itemsize), found.dtype, count)
    return content


def _numbers(data: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    if count < 0 or len(data) < count * dtype.itemsize:
        raise ValueError("the file ends within its numbers")
    return np.frombuffer(data, dtype, count)


def _named(content: Any) -> Iterator[tuple[str, np.ndarray]]:
    """(name, array) of all arrays in nested containers; a state dict wrapped by a training script is unwrapped."""
    seen = itertools.count(1)  # of what is looked at: a container may be in others many times, and in itself
    if isinstance(content, Mapping):
        wrapped = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
        for key, value in wrapped.items():
            yield from _under(str(key).removeprefix("module."), value, 1, seen)
    elif isinstance(content, list | tuple):
        yield from _under("", list(content), 1, seen)


def _under(name: str, value: Any, depth: int, seen: Iterator[int]) -> Iterator[tuple[str, np.ndarray]]:
    if depth > _DEEPEST or next(seen) > MOST_ARRAYS:
        raise ValueError("lists in lists without an end")
    if isinstance(value, Tensor | Array):
        yield name, value.array()
    elif isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, Mapping | list | tuple):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _under(f"{name}/{key}", inner, depth + 1, seen)
