"""TFRecord files by random access, without TensorFlow.

A record is its length (8 bytes), a checksum of these, the data, and a checksum of the data. The offsets are found by
hopping from length to length, so a set of 140 GB is indexed without being read. Every checksum is verified: damage to
a length makes the file useless and is refused, damage to data costs the one record.
"""

import functools
import os
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from research.data.transforms import UnreadableImage
from research.errors import UserError

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_ONES = bytes.fromhex("54641f64")  # after these bytes the register is all ones, which is how it begins
_WIDTH = 512  # bytes looked up as one row
_HEAD = struct.Struct("<QI")  # length, its checksum
_FOOT = struct.Struct("<I")  # checksum of the data
_THREADS = 16  # files indexed at a time: it is the disk that is waited for


@functools.cache
def _tables() -> np.ndarray:
    """uint32 [512, 256]: what a byte adds to the register of a row, by its place in the row and its value."""
    byte = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        byte = np.where(byte & 1, (byte >> 1) ^ np.uint32(_POLYNOMIAL), byte >> 1)
    places = [byte]
    while len(places) < _WIDTH:  # each one zero byte further from the end
        places.append((places[-1] >> 8) ^ byte[places[-1] & 255])
    return np.stack(places[::-1])


@functools.cache
def _advance() -> list[list[int]]:
    """What each of a register's 4 bytes becomes after a row of zeros."""
    byte, values = _tables()[-1], np.arange(256, dtype=np.uint32)
    moved = np.stack([values << np.uint32(8 * k) for k in range(4)])
    for _ in range(_WIDTH):
        moved = (moved >> 8) ^ byte[moved & 255]
    return moved.tolist()


def _registers(rows: np.ndarray) -> np.ndarray:
    """uint8 [n, at most 512] -> uint32 [n]: the register after each row, from all zeros."""
    table, width = _tables(), rows.shape[1]
    first = (_WIDTH - width + np.arange(width)) * 256
    return np.bitwise_xor.reduce(table.reshape(-1).take(np.add(rows, first, dtype=np.intp)), axis=1)


def crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720, appendix B.4); NumPy looks up all bytes at once."""
    size = len(_ONES) + len(data)
    padded = np.zeros(-(-size // _WIDTH) * _WIDTH, np.uint8)  # zeros in front change nothing
    padded[-size:] = np.frombuffer(_ONES + data, np.uint8)
    (a, b, c, d), register = _advance(), 0
    for row in _registers(padded.reshape(-1, _WIDTH)).tolist():
        register = a[register & 255] ^ b[register >> 8 & 255] ^ c[register >> 16 & 255] ^ d[register >> 24] ^ row
    return register ^ 0xFFFFFFFF


def _masked(checksum: Any) -> Any:
    """A checksum (int, or uint64 array) as the files hold it."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _check_heads(heads: bytes, file: str) -> None:
    """Raise `UserError` unless the checksum of every length is right; all at once, for there are a million."""
    rows = np.frombuffer(heads, np.uint8).reshape(-1, _HEAD.size)
    ones = np.broadcast_to(np.frombuffer(_ONES, np.uint8), (len(rows), 4))
    sums = _registers(np.concatenate([ones, rows[:, :8]], axis=1)) ^ np.uint32(0xFFFFFFFF)
    held = np.ascontiguousarray(rows[:, 8:]).view("<u4")[:, 0]
    bad = np.flatnonzero(_masked(sums.astype(np.uint64)) != held)
    if len(bad):
        raise UserError(f"{file} is damaged: the length of its record {bad[0]} does not have its checksum")


def _hop(file: str) -> tuple[np.ndarray, np.ndarray]:
    """Offset and length in bytes, int64 [n], of the data of each record. Raises `UserError` naming a bad file."""
    offsets, lengths, heads = [], [], []
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise UserError(
            f"{file} cannot be read: {error.strerror}; expected a file of TFRecords on this machine"
        ) from None
    try:
        if hasattr(os, "posix_fadvise"):  # else the kernel reads ahead, and so all of the file
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        size, place = os.fstat(descriptor).st_size, 0
        while place + _HEAD.size <= size:
            heads.append(os.pread(descriptor, _HEAD.size, place))
            lengths.append(_HEAD.unpack(heads[-1])[0])
            offsets.append(place + _HEAD.size)
            place = offsets[-1] + lengths[-1] + _FOOT.size
    finally:
        os.close(descriptor)
    _check_heads(b"".join(heads), file)
    if place != size:
        raise UserError(f"{file} is cut short: it ends inside record {max(len(offsets) - (place > size), 0)}")
    return np.array(offsets, np.int64), np.array(lengths, np.int64)


@dataclass(frozen=True)
class Records:
    """The records of some files, one file after the other. `counts`: how many records each is known to have, if it is.

    Raises `UserError` when a file is missing, cut short, damaged in a length, or has another number of records.
    """

    files: tuple[str, ...]
    counts: tuple[int, ...] | None = None
    starts: np.ndarray = field(init=False, repr=False, compare=False)  # number of each file's first record, and of all
    offsets: np.ndarray = field(init=False, repr=False, compare=False)
    lengths: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(_hop, self.files))
        for file, (offsets, _), count in zip(self.files, found, self.counts or [None] * len(self.files), strict=True):
            if count is not None and len(offsets) != count:
                raise UserError(f"{file} has {len(offsets)} records; expected {count}, as dataset_info.json says")
        starts = np.cumsum([0, *(len(offsets) for offsets, _ in found)])
        none = np.zeros(0, np.int64)
        for name, values in (
            ("starts", starts),
            ("offsets", np.concatenate([none, *(offsets for offsets, _ in found)])),
            ("lengths", np.concatenate([none, *(lengths for _, lengths in found)])),
        ):
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, number: int) -> bytes:
        """The data of a record. Raises `UnreadableImage` when it does not have its checksum, or cannot be read."""
        where = int(np.searchsorted(self.starts, number, side="right")) - 1
        file, within = self.files[where], number - int(self.starts[where])
        length = int(self.lengths[number])
        try:
            descriptor = os.open(file, os.O_RDONLY)  # opened each time: a set may have more files than may be open
            try:
                held = os.pread(descriptor, length + _FOOT.size, int(self.offsets[number]))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UnreadableImage(f"record {within} of {file} cannot be read: {error.strerror}") from error
        data, foot = held[:length], held[length:]
        if len(foot) != _FOOT.size or _FOOT.unpack(foot)[0] != _masked(crc32c(data)):
            raise UnreadableImage(f"record {within} of {file} is damaged: it does not have its checksum")
        return data


def write(file: str, records: Iterable[bytes]) -> None:
    """Write a file of TFRecords, byte for byte as TensorFlow does."""
    with open(file, "wb") as out:
        for data in records:
            length = struct.pack("<Q", len(data))
            out.write(length + _FOOT.pack(_masked(crc32c(length))) + data + _FOOT.pack(_masked(crc32c(data))))
