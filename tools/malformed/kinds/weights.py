"""Files of weights: pickles that would run code or never end, archives that unfold, headers that lie."""

import collections
import io
import json
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from research.pretrained.files import LEGACY_MAGIC
from tools.malformed.case import Case, Place
from tools.malformed.mutation import cut, garbage

SOUND = Path(__file__).parents[3] / "tests" / "pretrained" / "files"  # sound ones of PyTorch's, of no network here


def _train(place: Place, data: bytes, name: str = "w.pth") -> tuple[str, ...]:
    weights = place.write(name, data)
    words = ("train", "digits", "--model.name", "resnet18", "--data.resolution", "32")
    return (*words, "--transfer.weights", weights, "--workdir", "W")


class Attack:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.called = function, given

    def __reduce__(self) -> Any:
        return self.called


def in_zip(pickled: bytes, *members: tuple[str, bytes], packed: int = zipfile.ZIP_STORED) -> bytes:
    """An archive as PyTorch makes them, around any pickle."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", packed) as archive:
        archive.writestr("w/data.pkl", pickled)
        for name, content in members:
            archive.writestr(name, content)
    return data.getvalue()


def in_legacy(pickled: bytes) -> bytes:
    """A file of PyTorch's before 1.6, around any pickle."""
    return b"".join(pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, {})) + pickled


def _wrapped(chance: random.Random, pickled: bytes) -> bytes:
    return chance.choice((bytes, in_zip, in_legacy))(pickled)


def malicious_pickle(chance: random.Random, place: Place) -> Case:
    """A pickle that would run a command, write a file, or read one."""
    import builtins
    import os
    import subprocess

    marker = str(place.folder / "ran")
    attack = chance.choice(
        [
            Attack(os.system, f"touch {marker}"),
            Attack(subprocess.Popen, ["touch", marker]),
            Attack(builtins.eval, f"open({marker!r}, 'w')"),
            Attack(builtins.exec, f"open({marker!r}, 'w')"),
            Attack(builtins.open, marker, "w"),
            Attack(Path.touch, Path(marker)),
            Attack(np.save, marker, np.zeros(2)),
            Attack(getattr, Path, "home"),
            Attack(collections.OrderedDict.fromkeys, "ab"),
            Attack(__import__, "this"),
        ]
    )
    content = chance.choice([attack, {"w": attack}, [np.zeros(3), attack], np.array([attack], object), {attack: 1}])
    try:
        pickled = pickle.dumps(content, chance.choice([2, 3, 4]))
    except TypeError:  # not hashable as a key, whatever it is
        pickled = pickle.dumps([attack], 2)
    return Case(_train(place, _wrapped(chance, pickled)), "it would run code")


def opcodes(chance: random.Random, place: Place) -> Case:
    """Instructions of a pickle that ask for memory, time, names or depth without end."""
    deep = b"\x80\x02" + b"]" * chance.choice([2_000, 300_000]) + b"a" * 2_000
    laughs = b"\x80\x02](K\x01K\x01eq\x00"
    for level in range(1, chance.randint(30, 60)):
        laughs += b"](" + (b"h" + bytes([level - 1])) * 9 + b"eq" + bytes([level])
    pickled = chance.choice(
        [
            b"\x80\x02Nr\xff\xff\xff\x7f.",
            b"\x80\x02Nr\x00\x00\x00\x40.",
            b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
            b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.",
            b"\x80\x05\x96" + struct.pack("<Q", 2**42) + b"x.",
            b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"x.",
            b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",
            b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
            b"\x80\x02](h\x00e.",
            b"\x80\x02]q\x00h\x00a.",
            b"\x80\x02}q\x00X\x01\x00\x00\x00wh\x00s.",
            laughs + b".",
            deep + b".",
            b"\x80\x63N.",
            b"\x80\x02.",
            b"\x80\x02cnumpy\ndtype\nX\x0f\x00\x00\x00(1000000000,)f4\x85R.",
            b"\x80\x02cnumpy\ndtype\nX\x03\x00\x00\x00,,,\x85R.",
            b"\x80\x02c\n\n.",
            b"\x80\x02" + garbage(chance),
            b"\x80\x02" + b"I" + b"9" * 100_000 + b"\n.",
        ]
    )
    return Case(_train(place, _wrapped(chance, pickled)), "a pickle without an end")


def tensors_that_lie(chance: random.Random, place: Place) -> Case:
    """Tensors whose shape, strides or place are not those of the numbers that are there."""

    def tensor(count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], key: str = "0") -> bytes:
        def number(n: int) -> bytes:
            return pickle.dumps(n, 2)[2:-1]

        def several(numbers: tuple[int, ...]) -> bytes:
            return b"(" + b"".join(map(number, numbers)) + b"t"

        stored = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + pickle.dumps(key, 2)[2:-1].split(b"q\x00")[0]
        stored += b"X\x03\x00\x00\x00cpu" + number(count) + b"tQ"
        rest = number(offset) + several(shape) + several(strides) + b"\x89ccollections\nOrderedDict\n)R"
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + rest + b"tR"

    def state(*made: bytes) -> bytes:
        named = b"".join(pickle.dumps(f"w{i}", 2)[2:-1].split(b"q\x00")[0] + t for i, t in enumerate(made))
        return b"\x80\x02}(" + named + b"u."

    numbers = bytes(4 * 64)
    wrong = chance.choice(
        [
            state(tensor(64, 0, (65,), (1,))),
            state(tensor(64, 60, (8,), (1,))),
            state(tensor(64, -1, (8,), (1,))),
            state(tensor(64, 0, (8, 8), (8, -1))),
            state(tensor(64, 0, (2**40,), (0,))),
            state(tensor(64, 0, (2**31, 2**31), (0, 0))),
            state(tensor(64, 0, (-8,), (1,))),
            state(tensor(64, 0, (8,), (2**60,))),
            state(tensor(64, 0, (8,), (1, 1))),
            state(tensor(2**40, 0, (8,), (1,))),
            state(tensor(-64, 0, (8,), (1,))),
            state(tensor(64, 0, (8,), (1,), key="../../0")),
            state(tensor(64, 0, (8,), (1,), key="missing")),
            state(*(tensor(64, 0, (64,), (1,)) for _ in range(20_000))),
        ]
    )
    return Case(_train(place, in_zip(wrong, ("w/data/0", numbers))), "tensors that are not there")


def archive_that_unfolds(chance: random.Random, place: Place) -> Case:
    """A zip bomb, or an archive that is none of PyTorch's."""
    pickled = pickle.dumps({}, 2)
    data = chance.choice(
        [
            lambda: in_zip(b"\x80\x02" + b"N0" * (64 << 20) + b"N.", packed=zipfile.ZIP_DEFLATED),
            lambda: in_zip(b"\x80\x02B" + struct.pack("<I", 1 << 27) + bytes(1 << 27) + b".", packed=zipfile.ZIP_BZIP2),
            lambda: in_zip(pickled, ("w/byteorder", bytes(1 << 28)), packed=zipfile.ZIP_DEFLATED),
            lambda: in_zip(pickled, ("w/byteorder", b"big")),
            lambda: in_zip(pickled, ("v/data.pkl", pickled)),
            lambda: in_zip(pickled, *((f"w/data/{n}", b"") for n in range(5000))),
            lambda: in_zip(pickled).replace(b"data.pkl", b"data.pkx"),
            lambda: in_zip(pickled, ("../../../escape", b"x")),
            lambda: cut(chance, (SOUND / "zip.pth").read_bytes()),
            lambda: _npz(object_=True),
            lambda: _npz(object_=False),
        ]
    )()
    return Case(_train(place, data), "no archive of weights")


def _npz(*, object_: bool) -> bytes:
    data = io.BytesIO()
    array = np.array([Attack(print, "ran")], object) if object_ else np.zeros(3)
    np.savez(data, w=array)
    return data.getvalue()


def wrong_safetensors(chance: random.Random, place: Place) -> Case:
    """A header of safetensors that is none, or says what cannot be."""

    def file(header: Any, numbers: int = 64, size: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if size is None else size) + text + bytes(numbers)

    def one(dtype: str = "F32", shape: Any = (16,), offsets: Any = (0, 64)) -> dict[str, Any]:
        return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}

    wrong = chance.choice(
        [
            file(one(), size=chance.choice([2**63, 10**8 - 1, 99_999_999, 1])),
            file(one(offsets=(0, 2**40))),
            file(one(offsets=(64, 0))),
            file(one(offsets=(-64, 0))),
            file(one(offsets=(0, 60))),
            file(one(shape=(2**40,))),
            file(one(shape=(2**32, 2**32, 2**32))),
            file(one(shape=(-16,))),
            file(one(shape="x")),
            file(one(dtype="F33")),
            file(one(dtype=chance.choice(["F4", "", "object"]))),
            file(one() | {"v": one()["w"]}, 64),
            file({"w": one()["w"], "v": {"dtype": "F32", "shape": [16], "data_offsets": [32, 96]}}, 96),
            file(one(), numbers=chance.randint(0, 63)),
            file(one(), numbers=chance.randint(65, 999)),
            file({"w": 3}),
            file({"__metadata__": {"a": 1}}),
            file({}),
            file(b"{" * 5000),
            file(b'{"w":' + garbage(chance) + b"}"),
            file(b'{"w": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}' + b" " * 100, size=9),
        ]
    )
    return Case(_train(place, wrong, "w.safetensors"), "no safetensors")


def weights_of_another(chance: random.Random, place: Place) -> Case:
    """Sound files of weights of no network here, a bit of which is another; or files of something else."""
    data = bytearray((SOUND / chance.choice(["zip.pth", "legacy.pth", "wrapped.pth", "module.pth"])).read_bytes())
    for _ in range(chance.randint(0, 4)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    other = chance.choice(
        [
            bytes(data),
            pickle.dumps({"w": np.array(["text"])}),
            pickle.dumps({"a": 1}),
            pickle.dumps({"w": np.zeros(3, "f4,f4")}),
            pickle.dumps({b"\xff": np.zeros(3)}),
            pickle.dumps({"\x1b[31m": np.zeros(3), "<b>": np.zeros(2)}),
            b"",
            b"hello",
            garbage(chance),
            b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
            b"\x89HDF\r\n\x1a\n" + garbage(chance),
        ]
    )
    return Case(_train(place, other), "weights of nothing here")


def wrong_words_of_weights(chance: random.Random, place: Place) -> Case:
    """Words about weights that cannot be."""
    name = place.write("w.pth", (SOUND / "zip.pth").read_bytes())
    train = ["train", "digits", "--model.name", "resnet18", "--data.resolution", "32", "--transfer.weights"]
    words = chance.choice(
        [
            [*train, name, "--transfer.source", chance.choice(["torchvison", "", "\x1b[2J"])],
            ["train", "digits:lenet5", "--transfer.weights", name],
            [*train, f"package:{chance.choice(['nothing_like_this/x', '', '/', '../x', 'os/path', 'numpy/none.pth'])}"],
            [*train, "package:numpy/../../../../../../../../../etc/passwd"],
            [*train, chance.choice(["", "w.pth/x", "/dev/null", "/dev/zero", "n" * 5000, "file:///w.pth", "a\nb"])],
            [*train, name, "--transfer.freeze", chance.choice(["up_to:stage99", "up_to:", "everything"])],
        ]
    )
    return Case((*words, "--workdir", "W"), "no such weights")
