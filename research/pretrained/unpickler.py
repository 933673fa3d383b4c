"""Pickles of arrays, read without executing them: a name that is not on a short list ends the reading.

`pickle` builds whatever a file names, by calling it. Here only these can be named: the storages and rebuilding of
PyTorch's tensors, NumPy's arrays, and ordered dictionaries; PyTorch's are stand-ins of ours.
"""

import collections
import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


@dataclass
class Storage:
    """A run of numbers that tensors are views of; `data` is filled in when it has been read."""

    dtype: np.dtype
    count: int
    data: np.ndarray | None = None


@dataclass
class Tensor:
    """A view of a storage: PyTorch's tensor, not yet an array. What else a file attaches to it is dropped."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    state: Any = field(default=None, repr=False)

    def __setstate__(self, state: Any) -> None:
        """Ignored."""

    def array(self) -> np.ndarray:
        """The numbers. Raises `ValueError` where the view reaches beyond its storage."""
        data = self.storage.data
        if data is None:
            raise ValueError("a tensor's numbers are missing")
        if math.prod(self.shape) > data.size:
            raise ValueError("a tensor has more numbers than are stored")
        sizes = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((n - 1) * step for n, step in sizes)
        if min((*self.shape, *self.strides, self.offset), default=0) < 0 or (0 not in self.shape and last >= data.size):
            raise ValueError("a tensor reaches beyond its numbers")
        steps = [step * data.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, steps).copy()


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return Tensor(storage, int(offset), tuple(int(n) for n in shape), tuple(int(n) for n in strides))


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in encoding {encoding!r}")
    return text.encode("latin1")


_CODE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")  # of a number; NumPy would take an expression too


class _Dtype:
    """Stands for `numpy.dtype`: a code such as `f4` and a byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise pickle.UnpicklingError(f"an array of {str(code)[:40]!r}, which is no number")
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        """(version, byte order, and five more for what has fields)."""
        if state[1] in (">", "<", "|", "="):
            self.value = self.value.newbyteorder(state[1])


class Array:
    """Stands for `numpy.ndarray`: what `__setstate__` is given, read as numbers and nothing else."""

    def __init__(self, *_: Any) -> None:
        self.value = np.zeros(0, np.float32)

    def __setstate__(self, state: Any) -> None:
        """(version, shape, dtype, whether Fortran's order, bytes)."""
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):  # written by Python 2
            data = data.encode("latin1")
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array without numbers")
        self.value = np.frombuffer(data, dtype.value).reshape(shape, order="F" if fortran else "C")

    def array(self) -> np.ndarray:
        """The numbers."""
        return self.value


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> Array:
    """What NumPy writes from pickle's protocol 5 on."""
    made = Array()
    made.__setstate__((1, shape, dtype, order == "F", bytes(data)))
    return made


def _scalar(dtype: Any, data: Any = b"") -> Array:
    made = Array()
    made.__setstate__((1, (), dtype, False, data))
    return made


_KNOWN: dict[tuple[str, str], Callable[..., Any] | type] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _encoded,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


def check(data: bytes, begin: int = 0) -> None:
    """Raise `ValueError` for a pickle (from `begin` on) whose instructions ask for what it does not hold.

    Python's reader makes room for as many bytes as an instruction announces, and for as many notes as the highest
    number of one, before it looks at what there is: a dozen bytes would take all memory. Nothing is built here.
    """
    stream = io.BytesIO(data)
    stream.seek(begin)
    for instruction, argument, place in pickletools.genops(stream):
        if instruction.name in _PUTS and not 0 <= int(argument or 0) <= len(data):
            raise ValueError(f"note {argument} of a pickle of {len(data)} bytes (at {place})")


class RestrictedUnpickler(pickle.Unpickler):
    """Reads arrays and containers of them. Raises `pickle.UnpicklingError` at any other name.

    `storage_of` (type, key, count) gives the storage that a PyTorch file refers to.
    """

    def __init__(self, file: io.BufferedIOBase, storage_of: Callable[[np.dtype, str, int], Storage] | None = None):
        super().__init__(file, encoding="latin1")
        self.storage_of = storage_of

    def find_class(self, module: str, name: str) -> Any:
        """What the file may name."""
        if module == "torch" and name in STORAGES:
            return np.dtype(STORAGES[name])
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"names {module}.{name}, which is no array")
        return _KNOWN[module, name]

    def persistent_load(self, reference: Any) -> Any:
        """The storage that a PyTorch file refers to."""
        kind, dtype, key, _, count = reference[:5]
        if kind != "storage" or self.storage_of is None or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("refers to something that is no storage")
        return self.storage_of(dtype, str(key), int(count))
