"""TFRecord sets: read equal to array_record ones, damage named, converted without TensorFlow."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from research import data
from research.config import DataConfig
from research.data import convert, sources, tfrecord
from research.data.__main__ import main
from research.data.transforms import UnreadableImage
from research.errors import UserError
from tests.data.conftest import encode, random_image

COUNTS = {"train": (5, 4), "test": (3,)}  # records of each file


def images(split):
    first = 0 if split == "train" else 100
    return [encode(random_image(first + i, 6 + i % 3, 8, 3)).getvalue() for i in range(sum(COUNTS[split]))]


def write_set(data_dir, form, name="photos", spoiled=None):
    """A prepared set of these images, classes cat and dog in turn; returns its folder.

    `spoiled`: the training record that holds something else.
    """
    folder = data_dir / name / "1.0.0"
    folder.mkdir(parents=True)
    counts = {}
    for split, sizes in COUNTS.items():
        records = [convert.example(image, i % 2) for i, image in enumerate(images(split))]
        records = [b"\xff" * 20 if (split, i) == ("train", spoiled) else record for i, record in enumerate(records)]
        starts = np.cumsum([0, *sizes])
        counts[split] = [
            convert.write(
                str(folder / convert.file_name(name, split, i, len(sizes), form)),
                records[starts[i] : starts[i + 1]],
                form,
            )
            for i in range(len(sizes))
        ]
    convert.describe(folder, name, convert.photographs(["cat", "dog"]), counts, "Random images.")
    return folder


@pytest.fixture
def stored(tmp_path):
    return write_set(tmp_path, "tfrecord")


def config(data_dir, **fields):
    return DataConfig(name="photos", path=str(data_dir), resolution=8, **fields)


def read(cfg, split):
    """Bytes of every image of a split, and labels, in their order."""
    examples = sources.source(cfg).read(cfg, split)
    found, labels = examples.read(np.arange(examples.count))
    np.testing.assert_array_equal(labels, examples.labels())
    return [image.read() for image in found], labels.tolist()


# --- the format


def test_checksums_are_those_of_the_standard():
    """RFC 3720, appendix B.4, and the check value of the CRC catalogue."""
    values = {
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
        bytes(range(31, -1, -1)): 0x113FDB5C,
        b"123456789": 0xE3069283,
        b"": 0,
    }
    assert {data: tfrecord.crc32c(data) for data in values} == values


def test_checksums_of_long_data_do_not_depend_on_how_they_are_taken_in():
    """Against the definition, bit by bit: the remainder of a division of polynomials."""
    for size in (1, 3, 507, 508, 509, 1600):  # around a row of 512 with its 4 bytes in front
        data = random_image(size, 1, size, 1).tobytes()
        register = 0xFFFFFFFF
        for byte in data:
            register ^= byte
            for _ in range(8):
                register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
        assert tfrecord.crc32c(data) == register ^ 0xFFFFFFFF


def test_a_file_worked_by_hand(tmp_path):
    """Length 3, its masked checksum, the data, theirs: what TensorFlow 2.21 wrote for b"abc"."""
    file = tmp_path / "one"
    tfrecord.write(str(file), [b"abc"])
    assert file.read_bytes().hex() == "0300000000000000b099490e6162636e57f121"
    assert tfrecord.Records((str(file),)).read(0) == b"abc"


def test_records_of_several_files_one_of_them_empty(tmp_path):
    lengths = [[0, 1, 700], [], [3, 0]]
    made = [[random_image(i, 1, n, 1).tobytes() if n else b"" for n in row] for i, row in enumerate(lengths)]
    files = [str(tmp_path / f"{i}") for i in range(3)]
    for file, records in zip(files, made, strict=True):
        tfrecord.write(file, records)
    found = tfrecord.Records(tuple(files))
    assert [found.read(i) for i in range(len(found))] == [record for row in made for record in row]


# --- as a data set


def test_tfrecord_and_array_record_are_the_same_set(tmp_path):
    write_set(tmp_path / "one", "tfrecord")
    write_set(tmp_path / "other", "array_record")
    one, other = config(tmp_path / "one"), config(tmp_path / "other")
    assert data.info(one) == data.info(other)
    assert data.info(one).class_names == ("cat", "dog")
    for split in ("train", "eval"):
        assert read(one, split) == read(other, split)
    assert read(one, "train") == (images("train"), [0, 1, 0, 1, 0, 1, 0, 1, 0])
    examples = sources.source(one).read(one, "train")
    some, labels = examples.read(np.array([8, 3, 3]))
    assert [image.read() for image in some] == [images("train")[i] for i in (8, 3, 3)]
    assert labels.tolist() == [0, 1, 1]


def test_tensorflow_is_never_imported(stored):
    code = (
        "import sys; from research import data; from research.config import DataConfig; "
        f"cfg = DataConfig(name='photos', path={str(stored.parents[1])!r}, resolution=8); "
        "print(data.pipeline(cfg, seed=0).resident['train']['image'].shape, "
        "[m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'tensorflow_core')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "(9, 8, 8, 3) []"


def refused(call):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def shard(folder, number=0):
    return folder / f"photos-train.tfrecord-{number:05d}-of-00002"


@pytest.mark.parametrize("keep", [5, 11, 13, 300, -1])
def test_a_file_cut_short_is_named(stored, keep):
    file = shard(stored, 1)
    file.write_bytes(file.read_bytes()[:keep])
    assert f"{file} is cut short" in refused(lambda: read(config(stored.parents[1]), "train"))


def test_a_file_cut_between_records_is_named(stored):
    whole = tfrecord.Records((str(shard(stored)),))
    end = int(whole.offsets[2] + whole.lengths[2]) + 4
    shard(stored).write_bytes(shard(stored).read_bytes()[:end])
    message = refused(lambda: read(config(stored.parents[1]), "train"))
    assert f"{shard(stored)} has 3 records; expected 5" in message


def test_a_missing_file_is_named(stored):
    shard(stored).unlink()
    assert f"{shard(stored)} cannot be read: No such file" in refused(lambda: read(config(stored.parents[1]), "train"))


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)


def test_a_damaged_length_is_named(stored):
    offsets = tfrecord.Records((str(shard(stored)),)).offsets
    flip(shard(stored), int(offsets[1]) - 12)  # its lowest byte
    message = refused(lambda: read(config(stored.parents[1]), "train"))
    assert f"{shard(stored)} is damaged: the length of its record 1" in message


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_a_record_of_something_else_is_named_and_can_be_left_out(tmp_path, form):
    """Whole by its checksum, and no tf.train.Example."""
    write_set(tmp_path, form, spoiled=6)
    cfg = config(tmp_path)
    assert re.match(r"example 6 of .* is damaged: .*data.corrupt=skip", refused(lambda: data.pipeline(cfg, seed=0)))
    kept = data.pipeline(dataclasses.replace(cfg, corrupt="skip"), seed=0)
    feed = next(iter(dataclasses.replace(kept, config=dataclasses.replace(kept.config, batch_size=9)).train(0)))
    assert dict(zip(feed["index"].tolist(), feed["mask"].tolist(), strict=True)) == {i: float(i != 6) for i in range(9)}


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_a_damaged_record_is_named_and_can_be_left_out(tmp_path, form):
    """Any byte of the image: a JPEG or PNG with one bit wrong may decode, to another picture."""
    folder = write_set(tmp_path, form)
    file = folder / f"photos-train.{form}-00001-of-00002"
    flip(file, file.read_bytes().index(images("train")[6]) + 40)
    cfg = config(tmp_path)
    examples = sources.source(cfg).read(cfg, "train")
    found, labels = examples.read(np.arange(9))
    for i, image in enumerate(found):
        if i == 6:
            with pytest.raises(UnreadableImage, match=r"(record 1 of .*00001-of-00002|example 6 of .*) is damaged"):
                image.read()
        else:
            assert image.read() == images("train")[i]
            assert labels[i] == i % 2
    assert "data.corrupt=skip leaves such images out" in refused(lambda: data.pipeline(cfg, seed=0))
    kept = data.pipeline(dataclasses.replace(cfg, corrupt="skip"), seed=0)
    feed = next(iter(dataclasses.replace(kept, config=dataclasses.replace(kept.config, batch_size=9)).train(0)))
    assert dict(zip(feed["index"].tolist(), feed["mask"].tolist(), strict=True)) == {i: float(i != 6) for i in range(9)}


# --- converted


def run(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_prepared_set_is_converted(stored, tmp_path, capsys):
    code, out, err = run(capsys, "convert", stored, "--data-dir", tmp_path / "new")
    assert (code, err) == (0, "")
    new = tmp_path / "new/photos/1.0.0"
    assert out.splitlines()[-2:] == ["test: 1 of 1 files, 3 records", f"converted: {new}"]
    for split in ("train", "eval"):
        assert read(config(tmp_path / "new"), split) == read(config(stored.parents[1]), split)
    assert data.info(config(tmp_path / "new")) == data.info(config(stored.parents[1]))
    metadata = [json.loads((folder / "dataset_info.json").read_text()) for folder in (stored, new)]
    assert metadata[0] | {"fileFormat": "array_record"} == metadata[1]
    same = write_set(tmp_path / "same", "array_record")
    assert sorted(f.name for f in new.iterdir()) == sorted(f.name for f in same.iterdir())
    code, out, err = run(capsys, "convert", stored, "--data-dir", tmp_path / "new")
    assert (code, out) == (2, "")
    assert err.startswith(f"{new} exists; move it away")
    assert "is prepared as array_record; expected tfrecord" in run(capsys, "convert", new)[2]


def test_a_damaged_set_is_not_half_converted(stored, tmp_path, capsys):
    flip(shard(stored, 1), 60)
    code, out, err = run(capsys, "convert", stored, "--data-dir", tmp_path / "new")
    assert (code, out) == (2, ""), "no progress of what comes to nothing"
    assert err.startswith(f"record 0 of {shard(stored, 1)} is damaged")
    assert not [path for path in (tmp_path / "new").rglob("*") if path.is_file()]


def raw_record(image, label, text=b"unused"):
    example = tf_example_pb2.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(image)
    example.features.feature["image/class/label"].int64_list.value.append(label)
    example.features.feature["image/class/text"].bytes_list.value.append(text)
    return example.SerializeToString()


@pytest.fixture
def classic(tmp_path):
    """As TensorFlow's ImageNet scripts write it: labels from 1, files without a suffix."""
    folder = tmp_path / "classic"
    folder.mkdir()
    for split, prefix in (("train", "train"), ("test", "validation")):
        records = [raw_record(image, 1 + i % 3) for i, image in enumerate(images(split))]
        for i in range(2):
            tfrecord.write(str(folder / f"{prefix}-0000{i}-of-00002"), records[i::2])
    (folder / "notes.txt").write_text("unused")
    return folder


def test_raw_records_are_converted(classic, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\ncow\n")
    words = ("convert", classic, "--data-dir", tmp_path / "new")
    code, out, err = run(capsys, *words, "--name", "photos", "--classes", names)
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == [
        "validation: 2 of 2 files, 3 records",
        f"converted: {tmp_path / 'new/photos/1.0.0'}",
    ]
    cfg = config(tmp_path / "new")
    info = data.info(cfg)
    assert (info.class_names, info.train_examples, info.eval_examples) == (("ant", "bee", "cow"), 9, 3)
    order = [0, 2, 4, 6, 8, 1, 3, 5, 7]
    assert read(cfg, "train") == ([images("train")[i] for i in order], [i % 3 for i in order])
    assert run(capsys, *words, "--name", "numbered")[0] == 0
    assert data.info(dataclasses.replace(cfg, name="numbered")).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected --name NAME"),
        (["--name", "My photos"], "--name is 'My photos'; expected lower-case"),
        (["--name", "photos", "--image-key", "image/encode"], "expected --image-key to name one of: image/encoded"),
        (["--name", "photos", "--label-key", "image/class/text"], "no one 'image/class/text' of type int64_list"),
        (["--name", "photos", "--first-label", "2"], "has label 1; expected 2 or more"),
        (["--name", "photos", "--classes", "few.txt"], "has label 3; expected 1 to 2, as --classes says"),
        (["--name", "photos", "--classes", "twice.txt"], "twice.txt has 'ant' more than once"),
        (["--name", "photos", "--classes", "none.txt"], "none.txt cannot be read"),
    ],
)
def test_what_cannot_be_converted_is_refused(classic, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    Path("few.txt").write_text("ant\nbee\n")
    Path("twice.txt").write_text("ant\nbee\nant\n")
    code, _, err = run(capsys, "convert", classic, "--data-dir", tmp_path / "new", *words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list((tmp_path / "new").rglob("*.*"))


def test_folders_that_hold_no_records_are_refused(tmp_path, capsys):
    assert "has no train-*" in run(capsys, "convert", tmp_path, "--name", "photos")[2]
    assert "is no folder" in run(capsys, "convert", tmp_path / "nowhere", "--name", "photos")[2]
    (tmp_path / "train-00000-of-00001").write_text("not a file of records at all")
    err = run(capsys, "convert", tmp_path, "--name", "photos", "--data-dir", tmp_path / "new")[2]
    assert "train-00000-of-00001 is damaged: the length of its record 0" in err


def test_what_a_killed_conversion_left_is_replaced(stored, tmp_path, capsys):
    left = tmp_path / "new/photos/incomplete.1.0.0"
    left.mkdir(parents=True)
    (left / "photos-train.array_record-00000-of-00002").write_text("half")
    assert run(capsys, "convert", stored, "--data-dir", tmp_path / "new")[0] == 0
    assert not left.exists()
    assert read(config(tmp_path / "new"), "train") == read(config(stored.parents[1]), "train")
