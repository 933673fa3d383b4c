"""Files of data sets: prepared sets of TensorFlow-Datasets, TFRecords, IDX, PGM; read, or converted."""

import functools
import gzip
import json
import os
import random
import struct
import tempfile
from pathlib import Path

from research.data import convert, tfrecord
from tools.malformed.case import Case, Place
from tools.malformed.kinds.images import encoded
from tools.malformed.mutation import at, cut, garbage, no_json_object, other_type, places, put

COUNT = 12  # examples


@functools.cache
def _prepared() -> dict[str, bytes]:
    """The files of a small prepared set `tiny`, of TFRecords."""
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "tiny", "1.0.0")
        folder.mkdir(parents=True)
        counts = {}
        for split in ("train", "test"):
            records = [convert.example(encoded(chance, "png"), number % 3) for number in range(COUNT)]
            file = folder / convert.file_name("tiny", split, 0, 1, "tfrecord")
            counts[split] = [convert.write(str(file), records, "tfrecord")]
        convert.describe(folder, "tiny", convert.photographs(["a", "b", "c"]), counts, "made up")
        metadata = folder / "dataset_info.json"
        metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"fileFormat": "tfrecord"}))
        return {file.name: file.read_bytes() for file in folder.iterdir()}


def _set(place: Place, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        place.write(f"sets/tiny/1.0.0/{name}", data)


def _train() -> tuple[str, ...]:
    words = ("train", "digits:resnet8", "--data.name", "tiny", "--data.path", "sets", "--data.resolution", "32")
    return (*words, "--data.batch-size", "4", "--parallelism.devices", "1", "--workdir", "W")


def _used(chance: random.Random) -> tuple[str, tuple[str, ...]]:
    """A program and words that read all of the set in `sets`."""
    converted = ("convert", "sets/tiny/1.0.0", "--data-dir", "new")
    return chance.choice([("launch.py", _train()), ("research.data", converted)])


def damaged_records(chance: random.Random, place: Place) -> Case:
    """A prepared set whose records are cut, missing, of another number or of other bytes than their checksums say."""
    files = dict(_prepared())
    name = chance.choice([name for name in files if ".tfrecord" in name])
    data = bytearray(files[name])
    way = chance.choice(("cut", "bit", "missing", "empty", "more", "length", "text", "no image", "no example"))
    if way == "cut":
        files[name] = cut(chance, bytes(data), 0.05, 0.95)
    elif way == "bit":
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        files[name] = bytes(data)
    elif way == "missing":
        del files[name]
    elif way == "empty":
        files[name] = b""
    elif way == "more":
        files[name] = bytes(data) + bytes(data)
    elif way == "length":
        length = struct.pack("<Q", chance.choice([2**62, 2**40, 2**63 + 5]))
        files[name] = length + struct.pack("<I", tfrecord._masked(tfrecord.crc32c(length))) + bytes(data[12:])
    elif way == "text":
        files[name] = b"hello\n" * 50
    else:
        record = {"no image": convert.example(garbage(chance), 0), "no example": b"\xff" * 20}[way]
        tfrecord.write(str(place.folder / name), [record] * COUNT)
        files[name] = (place.folder / name).read_bytes()
        _set(place, files)
        return Case(_train(), f"records: {way}")  # converting copies them as they are
    _set(place, files)
    program, words = _used(chance)
    return Case(words, f"records: {way}", program)


def wrong_description(chance: random.Random, place: Place) -> Case:
    """A prepared set whose dataset_info.json or features.json is none."""
    files = dict(_prepared())
    name = chance.choice(["dataset_info.json", "features.json"])
    values = json.loads(files[name])
    if chance.random() < 0.4:
        files[name] = no_json_object(chance, values)
    elif name == "features.json":
        path = chance.choice([p for p in places(values) if p[-1] in ("pythonClassName", "featuresDict")])
        wrong = ["os.system", "builtins.eval", "antigravity.fly", "", 3, [], {"pythonClassName": "subprocess.Popen"}]
        files[name] = json.dumps(put(values, path, chance.choice(wrong))).encode()
    else:
        told = ("splits", "name", "shardLengths", "version", "filepathTemplate", "fileFormat")
        path = chance.choice([p for p in places(values) if p[-1] in told])
        new = chance.choice([other_type(chance, at(values, path)), ["-5"], ["999999999999"], "../../x"])
        files[name] = json.dumps(put(values, path, new)).encode()
    if chance.random() < 0.1:
        del files[name]
    _set(place, files)
    return Case(_train(), f"{name} is none")


def wrong_convert(chance: random.Random, place: Place) -> Case:
    """Words of `python -m research.data` that cannot be."""
    _set(place, _prepared())
    raw = chance.choice([b"", garbage(chance), b"hello\n" * 9])
    place.write("raw/train-00000-of-00001", raw if raw else b"x")
    place.write("classes.txt", chance.choice([b"a\na\n", b"\xff\xfe\xfd", b"a\nb\n"]))
    place.write("there/tiny/1.0.0/x", b"x")
    os.symlink("loop", place.folder / "loop")
    words = chance.choice(
        [
            ["convert"],
            ["convrt", "raw"],
            ["prepare", chance.choice(["mnits", "", "../mnist", "a b", "\x1b[2J", "mnist:9", "x" * 5000])],
            ["convert", chance.choice(["nowhere", "", "raw/train-00000-of-00001", "loop", "n" * 300])],
            ["convert", "raw"],
            ["convert", "raw", "--name", chance.choice(["A", "../x", "", "a/b", "<b>", "x" * 300, "9"])],
            ["convert", "raw", "--name", "ok", "--data-dir", "new"],
            ["convert", "raw", "--name", "ok", "--data-dir", "raw/train-00000-of-00001"],
            ["convert", "raw", "--name", "ok", "--data-dir", "loop/x"],
            ["convert", "raw", "--name", "ok", "--first-label", "one"],
            ["convert", "raw", "--name", "ok", "--classes", chance.choice(["nowhere", "raw", "loop"])],
            ["convert", "sets/tiny/1.0.0", "--name", "x"],
            ["convert", "sets/tiny/1.0.0", "--data-dir", "there"],
            ["convert", "sets"],
            ["convert", "sets/tiny/1.0.0", "--data-dir", "there/tiny/1.0.0/x"],
            ["convert", "raw", "--nam", "ok"],
        ]
    )
    return Case(tuple(words), "nothing to convert", "research.data")


def _idx(chance: random.Random, magic: bytes, shape: tuple[int, ...], count: int) -> bytes:
    return gzip.compress(magic + struct.pack(f">{len(shape)}I", *shape) + chance.randbytes(count))


def wrong_idx(chance: random.Random, place: Place) -> Case:
    """Fashion-MNIST's files with other sizes, cut, or unfolding without an end."""
    images, labels = bytes([0, 0, 8, 3]), bytes([0, 0, 8, 1])
    few = _idx(chance, images, (10, 28, 28), 10 * 28 * 28)
    wrong = chance.choice(
        [
            lambda: b"",
            lambda: garbage(chance),
            lambda: few,
            lambda: cut(chance, few),
            lambda: _idx(chance, labels, (10, 28, 28), 7840),
            lambda: _idx(chance, images, (60_000, 28, 28), 100),
            lambda: _idx(chance, images, (2**32 - 1,) * 3, 100),
            lambda: gzip.compress(images + struct.pack(">3I", 60_000, 28, 28) + bytes(1 << 28)),
            lambda: gzip.compress(images)[:-8],
        ]
    )
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        good = few if "images" in name else _idx(chance, labels, (10,), 10)
        place.write(f"idx/{name}-ubyte.gz", wrong() if name == "train-images-idx3" else good)
    words = ("train", "fashion_mnist:lenet5", "--data.path", "idx", "--workdir", "W")
    return Case((*words, "--parallelism.devices", "1"), "no Fashion-MNIST")


def wrong_faces(chance: random.Random, place: Place) -> Case:
    """The photographs of ORL with some that are none, missing, or of another size."""
    one = b"P5\n92 112\n255\n" + chance.randbytes(92 * 112)
    for person in range(1, 41):
        for number in range(1, 11):
            place.write(f"faces/s{person}/{number}.pgm", one)
    bad = place.folder / f"faces/s{chance.randint(1, 40)}/{chance.randint(1, 9)}.pgm"
    way = chance.choice(("missing", "size", "cut", "text", "pipe", "empty"))
    bad.unlink()
    if way == "pipe":
        os.mkfifo(bad)
    elif way != "missing":
        other = {"size": b"P5\n10 12\n255\n" + bytes(120), "cut": cut(chance, one), "text": b"hello", "empty": b""}
        bad.write_bytes(other[way])
    words = ("train", "digits:resnet8", "--data.name", "orl_faces", "--data.path", "faces", "--data.resolution", "32")
    return Case((*words, "--parallelism.devices", "1", "--workdir", "W"), f"a photograph: {way}")
